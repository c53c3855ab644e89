package Leak;

# Nothing internal gets out. wiretap.c notes all that an nginx sends; when that
# has ended, each byte of its user exports, its responses and its requests to
# upstreams is searched for what is internal:
#
#   ids      of all internal spans that it has exported or announced, and of all
#            that was in internal headers, in hex and as bytes
#   names    of internal headers, if they are names of our own
#   markers  words with INTERNAL-MARKER in them
#
# An internal header is where it belongs in a request to an upstream. An id that
# a client has sent elsewhere than in such a header is no secret.
#
# TraceTest.pm and Nginx.pm do this by themselves, for every block and every
# nginx. What is about showing ids or names says where they are shown: with
#
#   --- shows_internal: response upstream
#
# or Nginx->new(shows_internal => 'response'). Markers are never shown.
#
#   my $leak = Leak->new($directory);           # which it makes
#   %ENV = (%ENV, $leak->environment);          # in the process of nginx
#   $leak->check($name, $config, $shows);       # when that has ended

use strict;
use warnings;

use H2;
use IO::Uncompress::Gunzip qw(gunzip);
use Receiver;
use Test::More ();

my $EXPORT = qr{\APOST [^\r]*\r\n(?:[^\r]+\r\n)*?User-Agent: OTel-OTLP-};
my $IDS = qr/[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}/i;

sub new {
    my ($class, $dir) = @_;

    mkdir $dir;
    chmod 0777, $dir;           # for workers

    return bless { dir => $dir }, $class;
}

# what nginx, and nothing else, has in its environment

sub environment {
    return (LD_PRELOAD => $ENV{TEST_NGINX_LD_PRELOAD} // '',
            WIRETAP => $_[0]{dir});
}

# a test that fails, if there is anything

sub check {
    my ($self, $name, $config, $shows) = @_;
    my @complaints = complaints(flows($self->{dir}), $config, $shows);

    unlink glob "$self->{dir}/*";
    return if !@complaints;

    Test::More::fail("$name - nothing internal gets out");
    Test::More::diag($_) for @complaints;
}

# The connections: |from| is client or nginx, who has made it; |sent| is what
# nginx has sent, |received| what a client has.

sub flows {
    my $dir = shift;
    my @flows;

    for my $file (glob "$dir/*") {
        open my $fh, '<:raw', $file or die "$file: $!";
        my $bytes = do { local $/; <$fh> };
        my ($pos, %flow) = (0);

        while ($pos + 12 <= length $bytes) {
            my ($type, $number, $n) = unpack 'L3', substr $bytes, $pos, 12;

            if ($n == 0) {
                push @flows, $flow{$number} = { sent => '', received => '',
                    from => chr $type eq 'a' ? 'client' : 'nginx' };
            } else {
                $flow{$number}{chr $type eq 's' ? 'sent' : 'received'}
                    .= substr $bytes, $pos + 12, $n;
            }

            $pos += 12 + $n;
        }
    }

    return \@flows;
}

# what is wrong with them, a line for each

sub complaints {
    my ($flows, $config, $shows) = @_;
    my $bytes = sorted($flows, $config);
    my @names = header_names($config);
    my $secrets = secrets($bytes, carriers(@names), @names);
    my $search = searcher($secrets, @names);
    my %seen;

    for my $where (qw(export response upstream)) {
        my $shown = ($shows // '') =~ /\b$where\b/;

        for my $what (map { $search->($_) } @{$bytes->{$where}}) {
            $seen{"$where: $what"} = 1 if !$shown || $what =~ /^marker/;
        }
    }

    return sort keys %seen;
}

# by what they are: internal and export, what the exporters send; request and
# response; upstream, what is sent there

sub sorted {
    my ($flows, $config) = @_;
    my $routing = join '|', map { quotemeta }
        $config =~ /\brouting_header\s+([-\w]+)/g;
    my %bytes = map { ($_ => []) }
        qw(internal export request response upstream);

    for my $flow (@$flows) {
        my ($sent, $received) = @$flow{qw(sent received)};

        if ($flow->{from} eq 'nginx' && $sent =~ $EXPORT) {
            for my $request (exports($sent)) {
                my $user = $routing ne ''
                    && $request->{head} =~ /^(?:$routing): /mi;

                push @{$bytes{$user ? 'export' : 'internal'}},
                    $user ? join '', values %$request : $request->{body};
            }
            next;
        }

        $_ = h2_text($_) for $received =~ /\APRI / ? ($sent, $received)
            : $sent =~ /\APRI / ? $sent : ();
        push @{$bytes{upstream}}, $sent if $flow->{from} eq 'nginx';
        push @{$bytes{request}}, $received if $flow->{from} eq 'client';
        push @{$bytes{response}}, $sent if $flow->{from} eq 'client';
    }

    return \%bytes;
}

# the requests of a connection; the last one may be cut off

sub exports {
    my $stream = shift;
    my @requests;

    while ($stream =~ /\G(.*?\r\n\r\n)/gcs) {
        my $head = $1;
        my ($length) = $head =~ /^Content-Length: (\d+)/mi;
        my $raw = substr $stream, pos $stream, $length;
        my $body = $raw;

        gunzip(\$raw, \$body) if $head =~ /^Content-Encoding: gzip/mi;
        push @requests, { head => $head, raw => $raw, body => $body };

        pos $stream += length $raw;
    }

    return @requests;
}

# of the internal headers that the configuration names. A user pipeline is not
# without one of its own

sub header_names {
    my $config = shift;
    my @names = map { lc } $config
        =~ /\btrace_context\s+internal\b[^;]*\sheader=([-\w]+)/g;

    return if $config !~ /\btrace\s+internal\s+(?!off)/;
    return @names if @names && $config =~ /\btrace_exporter\s+user\b/;
    return (@names, 'traceparent');
}

sub with_state { return map { $_, s/parent\z/state/r } @_ }

# one of these headers and its value, in any protocol

sub carriers {
    my $names = join '|', map { s/-/[-_]/gr } with_state(@_);

    return @_ ? qr/(?:HTTP_|(?<![-\w]))(?:$names)(?::[ ]?|\0|7\0)?$IDS?/i
        : qr/(?!)/;
}

# in front of the secrets, what is in the carriers is taken out of upstream
# requests

sub secrets {
    my ($bytes, $carriers) = @_;
    my (%secret, %own, @known);
    my $take = sub {
        $_[0] =~ s/$carriers/@secret{lc $1, lc $2} = () if $1; ''/ge;
    };

    @secret{span_ids($_)} = () for @{$bytes->{internal}};

    for my $request (@{$bytes->{upstream}}) {
        $own{head($request)} = 1;
        $take->($request);
    }

    for my $request (@{$bytes->{request}}) {
        my $from_client = !$own{head($request)};

        $take->($request);
        push @known, $request if $from_client;
    }

    delete @secret{hex_ids($_, \%secret)} for @known;

    return \%secret;
}

sub head { $_[0] =~ /\A(.*?)\r\n\r\n/s ? $1 : $_[0] }

# trace-ids and span-ids of an export request: the first two fields of a span,
# and what stands behind times, severity and flags in a log record

my $SPAN_IDS = qr/\x0a\x10(.{16})\x12\x08(.{8})/s;
my $RECORD_IDS = qr/\x09.{8}\x59.{10}(?:\x45.{4})?
    \x4a\x10(.{16})\x52\x08(.{8})/sx;

sub span_ids {
    my $body = shift;

    return eval {
        map { unpack 'H*', $_ }
        map { grep { defined } /\A(?:$SPAN_IDS|$RECORD_IDS)/ }
        map { Receiver::fields($_, 2) } map { Receiver::fields($_, 2) }
        Receiver::fields($body, 1)
    };
}

# those of |$secrets| that are in a text

sub hex_ids {
    my ($text, $secrets) = @_;
    my @found;

    return if !%$secrets;

    while ($text =~ /([0-9a-f]{16,})/gi) {
        my $run = lc $1;

        for my $length (16, 32) {
            push @found, grep { exists $secrets->{$_} }
                map { substr $run, $_, $length } 0 .. length($run) - $length;
        }
    }

    return @found;
}

# a function that says what is in a text

sub searcher {
    my ($secrets, @names) = @_;
    my %raw = map { (pack('H16', $_) => 1) } keys %$secrets;
    my $names = join '|', map { s/-/[-_]/gr }
        with_state(grep { $_ ne 'traceparent' } @names);

    return sub {
        my $text = shift;
        my @found = map { "id $_" } hex_ids($text, $secrets);

        # nearly no id is without a byte above 7f
        while (%raw && $text =~ /((?:[\0-\x7f]{0,7}[\x80-\xff])+.{0,7})/gs) {
            push @found, map { 'id as bytes ' . unpack 'H*', $_ }
                grep { exists $raw{$_} } unpack '(a8X7)*', $1;
            pos($text) -= 7 if pos $text < length $text;
        }
        push @found, map { "name $_" } $text =~ /($names)/gi if $names ne '';
        push @found, map { "marker $_" }
            $text =~ /(?<![-\w])([-\w]*INTERNAL-MARKER[-\w]*)/gi;

        return @found;
    };
}

1;

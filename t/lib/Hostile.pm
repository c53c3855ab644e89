package Hostile;

# Requests that no client should send, to two servers: at on.sock one that
# traces, at off.sock the same without the module. All of Wire comes along.
#
#   compare(http => TEXT, prefixes => [...], removed => [...]);
#
#   http       both servers, which go to the upstream
#   prefixes   of the headers that leave on.sock, one traceparent for each
#   removed    other headers that it does not send on
#
#   --- same eval      [ requests ] that are answered alike, as raw() makes
#                      them, and reach the upstream alike but for the headers
#                      of the trace; each leaves a span of each prefix
#   --- statuses: N    how they are all answered

use strict;
use warnings;

use Exporter 'import';
use IPC::Open3;
use Test::More;
use Wire;

our @EXPORT = (@Wire::EXPORT, qw(raw compare comparable same_upstream));

my (@prefixes, $ours);

sub raw {
    my ($line, @headers) = @_;

    return join "\r\n", $line, @headers, '', '';
}

sub compare {
    my %conf = @_;

    @prefixes = @{$conf{prefixes}};

    my $prefix = join '|', @prefixes;
    my $names = join '|', "(?:$prefix)trace(?:parent|state)",
        @{$conf{removed} || []};

    $names =~ s/-/[-_]/g;
    $ours = qr/(?:$names)/i;

    add_block_preprocessor(sub {
        my $block = shift;

        return if !defined $block->same;

        my @requests = @{$block->same};
        my $n = @prefixes * @requests;

        $block->set_value('http', $conf{http});
        $block->set_value('config', '');
        $block->set_value('span_count', $n);
        $block->set_value('request', "GET /\n");
        $block->set_value('client', sub {
            same($block->name, $block->statuses =~ s/\s//gr, @requests);
        });

        my $check = $block->check_spans;

        $block->set_value('check_spans', sub {
            is(scalar @_, $n, $block->name . ' - spans');
            $check->(@_) if $check;
        });
    });
}

# the command says that a header is valid

sub valid {
    my ($command, $value, $name) = @_;
    my $pid = open3(my $in, my $out, undef, ($ENV{TEST_BUILD} || 'build')
        . '/traceparent', @$command, '--', $value);

    close $in;
    local $/;
    my $said = <$out>;
    waitpid $pid, 0;
    is($? >> 8, 0, "$name is valid") or diag($said);
}

# a response without what may differ: the date, and in the echoed head the
# headers of the trace

sub comparable {
    my $response = shift;

    $response =~ s/^Date: [^\r\n]*\r\n//mg;
    $response =~ s/^Content-Length: [^\r\n]*\r\n//mg;
    $response =~ s/^$ours:[^\n]*\n//mg;

    return $response;
}

# sends each request to both servers; the answers are the same, and so is what
# the upstream has got but for the headers of the trace, which are valid

sub same {
    my ($name, $statuses, @requests) = @_;

    connection();
    upstream()->requests;

    for my $i (0 .. $#requests) {
        my %response = map {
            $_ => exchange($requests[$i], "unix:$ENV{TEST_NGINX_DIR}/$_.sock")
        } qw(on off);

        ok(comparable($response{on}) eq comparable($response{off}),
           "$name - request $i is answered as without the module")
            or diag(substr($response{on}, 0, 500), "\n\n",
                    substr($response{off}, 0, 500));
        like($response{on}, qr{\AHTTP/1\.[01] $statuses },
             "$name - request $i");

        same_upstream("$name - request $i", upstream()->requests());
    }
}

sub same_upstream {
    my ($name, @got) = @_;

    is(@got % 2, 0, "$name - both reach the upstream or none does");
    return if !@got;

    my ($on, $off) = map { { %$_ } } @got;

    for my $prefix (@prefixes) {
        my @parents = grep { $_->[0] =~ /\A${prefix}traceparent\z/i }
            @{$on->{headers}};
        my @states = grep { $_->[0] =~ /\A${prefix}tracestate\z/i }
            @{$on->{headers}};

        is(scalar @parents, 1, "$name - one ${prefix}traceparent");
        valid(['parse'], $parents[0][1], "$name - ${prefix}traceparent");
        cmp_ok(scalar @states, '<=', 1, "$name - ${prefix}tracestate");

        for (@states) {
            cmp_ok(length $_->[1], '<=', 512, "$name - ${prefix}tracestate");
            valid(['state', 'combine'], $_->[1], "$name - ${prefix}tracestate");
        }
    }

    $_->{headers} = [grep { $_->[0] !~ /\A$ours\z/ } @{$_->{headers}}]
        for $on, $off;
    is_deeply($on, $off, "$name - all other headers");
}

1;

package Wire;

# What goes over the wires: TraceTest, with an upstream that notes what it
# gets, byte for byte. Its socket is $TEST_NGINX_UPSTREAM, for
#
#   proxy_pass http://$TEST_NGINX_UPSTREAM:/;
#
#   --- exchanges eval       [ { ... }, ... ]
#                            requests, sent one after the other, each with its
#                            span and with what it makes of them upstream
#   --- pipeline: user       whose span it is, internal by itself
#   --- prefix: x-op-        in front of the names of the headers
#
# An exchange is a hash:
#
#   uri       /t by itself
#   send      the header lines of the request
#   bytes     the whole request instead
#   to        a socket of nginx, "unix:/path", instead of its port
#   status    of the response, 200 by itself
#   protocol  of the upstream, http by itself
#   requests  how many reach it, 1 by itself; all have the same headers of ours
#   trace     [trace-id, parent-id] that go on; without it, a new trace begins
#   flags     which leave, in hex: 01 by itself, 03 with a new trace
#   state     the tracestate that leaves and that the span has, if any
#   left      the header lines that reach the upstream, where they are not ours
#   spans     how many are recorded of the request: 0 or, by itself, 1
#   span      more of the span, as in --- spans
#
# What reaches the upstream has the id of the attempt that sent it, if that was
# recorded, and else of the request.
#
# Without --- config all requests are traced and go to the upstream.
#
# After both_record(LINES) both pipelines record, unless the --- trace of a block
# says otherwise; LINES stand in front of its --- http.

use strict;
use warnings;

use Exporter 'import';
use IO::Socket::UNIX;
use TraceTest;
use Upstream;

our @EXPORT = (@TraceTest::EXPORT, qw(
    upstream request exchange trace_headers traceparent_of
    headers_of both_record));

my %upstreams;

$ENV{TEST_NGINX_UPSTREAM} = 'unix:' . receiver_dir() . '/http.sock';

# the upstream of a protocol, http by itself

sub upstream {
    my $protocol = shift || 'http';

    $upstreams{$protocol} ||= Upstream->new(protocol => $protocol,
        socket => receiver_dir() . "/$protocol.sock");

    return $upstreams{$protocol};
}

upstream();

END {
    my $status = $?;
    $_->stop for values %upstreams;
    $? = $status;
}

sub both_record {
    my $lines = shift;

    add_block_preprocessor(sub {
        my $block = shift;
        my $client = $block->client;
        my $trace = $block->trace // "trace internal on;\ntrace user on;";

        $block->set_value('client',
            sub { upstream()->requests; $client->() });
        $block->set_value('http', "$trace\n" . <<'_EOC_' . $lines
trace_context internal propagate header=x-op-traceparent;
trace_trusted internal unix:;
trace_routing acme;
_EOC_
            . ($block->http // ''));
    });
}

sub request {
    my ($uri, @headers) = @_;

    return join "\r\n", "GET $uri HTTP/1.1", 'Host: localhost',
        'Connection: close', @headers, '', '';
}

# the response to |$bytes|, sent to nginx or to one of its Unix sockets

sub exchange {
    my ($bytes, $to) = @_;

    return talk($bytes) if !defined $to;

    my ($path) = $to =~ /\Aunix:(.*)\z/;
    my $socket = IO::Socket::UNIX->new($path) or die "$path: $!";
    my $response = '';

    local $SIG{PIPE} = 'IGNORE';
    print $socket $bytes;
    $socket->flush;
    1 while $socket->sysread($response, 65536, length $response);

    return $response;
}

# of a request at the upstream, as lines

sub trace_headers {
    my $request = shift;

    return map { "$_->[0]: $_->[1]" }
        grep { $_->[0] =~ /trace(parent|state)\z/i }
        @{$request->{headers}};
}

sub traceparent_of {
    my $span = shift;

    return sprintf '00-%s-%s-%02x', @$span{qw(trace_id span_id)},
        $span->{flags} & 0xff;
}

# the header lines that the upstream has to get from what the span says

sub headers_of {
    my ($span, $prefix) = @_;
    my @expected = 'traceparent: ' . traceparent_of($span);

    push @expected, "tracestate: $span->{trace_state}"
        if length($span->{trace_state} // '');

    return map { ($prefix // '') . $_ } @expected;
}

# as the parameters of other protocols than http

sub params_of {
    return map { s/\A([^:]*)/'HTTP_' . uc($1) =~ tr{-}{_}r/er } @_;
}

sub check_span {
    my ($e, $span, $name) = @_;
    my $flags = hex($e->{flags} // ($e->{trace} ? '01' : '03'));
    my ($trace_id, $parent_id) = @{$e->{trace} || ['', '']};

    if ($e->{trace}) {
        Test::More::is($span->{trace_id}, $trace_id, "$name - trace-id");

    } else {
        Test::More::unlike(join("\n", @{$e->{send} || []}),
            qr/$span->{trace_id}/, "$name - new trace-id");
    }

    Test::More::is($span->{parent_span_id}, $parent_id, "$name - parent");
    Test::More::is($span->{trace_state} // '', $e->{state} // '',
        "$name - tracestate");
    Test::More::is($span->{flags}, $flags | ($e->{trace} ? 0x300 : 0x100),
        "$name - flags");
    TraceTest::matches($span, $e->{span}, "$name - span") if $e->{span};
}

# the attempts of each request, those of its subrequests as well

sub attempts_of {
    my %span = map { ($_->{span_id} => $_) } @_;
    my %attempts;

    for my $attempt (grep { $_->{kind} eq 'CLIENT' } @_) {
        my $span = $attempt;

        $span = $span{$span->{parent_span_id}} || last
            while $span->{kind} ne 'SERVER';
        push @{$attempts{$span->{span_id}}}, $attempt;
    }

    return \%attempts;
}

# those of the attempts that make up |@$attempts|, in the order of |@requests|

sub check_attempts {
    my ($e, $requests, $span, $attempts, $name, $prefix) = @_;
    my %attempt = map { ($_->{span_id} => $_) } @$attempts;

    for my $request (@$requests) {
        my ($id) = grep { $_ } map { /parent: ..-.{32}-(.{16})-..\z/i }
            trace_headers($request);
        my @out = $e->{left} ? @{$e->{left}}
            : headers_of(delete $attempt{$id // ''} // $span, $prefix);

        @out = params_of(@out) if ($e->{protocol} // 'http') ne 'http';

        Test::More::is_deeply([trace_headers($request)], \@out,
            "$name - headers out");
    }

    Test::More::is(scalar keys %attempt, 0, "$name - attempts")
        if !$e->{left};
}

sub check_exchange {
    my ($e, $got, $span, $attempts, $name, $prefix) = @_;
    my $status = $e->{status} // 200;

    Test::More::like($got->{response}, qr{\AHTTP/1\.1 $status },
        "$name - status") if !$e->{bytes};
    Test::More::is(scalar @{$got->{requests}}, $e->{requests} // 1,
        "$name - requests");

    check_span($e, $span, $name) if $span;
    check_attempts($e, $got->{requests}, $span, $attempts, $name, $prefix);
}

sub run_exchanges {
    my ($block, $check) = @_;
    my $name = $block->name;
    my $prefix = $block->prefix // '';
    my @exchanges = @{$block->exchanges};
    my ($n, @got) = 0;

    $prefix =~ s/\s//g;
    connection();                   # waits until nginx listens
    $_->requests for values %upstreams;

    for my $e (@exchanges) {
        my $bytes = $e->{bytes}
            // request($e->{uri} // '/t', @{$e->{send} || []});

        push @got, {
            response => exchange($bytes, $e->{to}),
            requests => [upstream($e->{protocol})
                         ->requests($e->{requests} // 1)],
        };
        $n += $e->{spans} // 1;
    }

    my @spans = spans_until($n, 'SERVER');
    my $attempts = attempts_of(@spans);

    @spans = grep { $_->{kind} eq 'SERVER' } @spans;

    my @all = @spans;

    Test::More::is(scalar @spans, $n, "$name - spans");

    for my $i (0 .. $#exchanges) {
        my $e = $exchanges[$i];

        my $span = ($e->{spans} // 1) ? shift @spans : undef;

        check_exchange($e, $got[$i], $span,
            $span && $attempts->{$span->{span_id}} || [],
            "$name - exchange $i", $prefix);
    }

    $check->(@all) if $check;
}

add_block_preprocessor(sub {
    my $block = shift;

    return if !defined $block->exchanges;

    my $pipeline = $block->pipeline // 'internal';
    $pipeline =~ s/\s//g;

    if (!defined $block->config) {
        $block->set_value('config', "location /t {
            trace $pipeline on;
            trace_routing tenant;
            proxy_pass http://\$TEST_NGINX_UPSTREAM:/;
        }");
    }

    my $check = $block->check_spans;

    $block->set_value('check_spans', undef);
    $block->set_value('client', sub { run_exchanges($block, $check) });
    $block->set_value('request', "GET /\n");
});

1;

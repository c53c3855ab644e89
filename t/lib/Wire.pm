package Wire;

# What goes over the wires: TraceTest, with an upstream that notes what it
# gets, byte for byte. Its socket is $TEST_NGINX_UPSTREAM, for
#
#   proxy_pass http://$TEST_NGINX_UPSTREAM:/;
#
#   --- exchanges eval       [ { ... }, ... ]
#                            requests, sent one after the other, which end with
#                            one span and one request at the upstream each
#   --- pipeline: user       whose span it is, internal by itself
#   --- prefix: x-op-        in front of the names of the headers
#
# An exchange is a hash:
#
#   send      the header lines of the request
#   trace     [trace-id, parent-id] that go on; without it, a new trace begins
#   flags     which leave, in hex: 01 by itself, 03 with a new trace
#   state     the tracestate that leaves and that the span has, if any
#   left      the header lines that reach the upstream, where they are not ours
#   spans     how many are recorded of the request: 0 or, by itself, 1
#   to        a socket of nginx, "unix:/path", instead of its port
#
# Without --- config all requests are traced and go to the upstream.

use strict;
use warnings;

use Exporter 'import';
use IO::Socket::UNIX;
use TraceTest;
use Upstream;

our @EXPORT = (@TraceTest::EXPORT, qw(
    upstream request exchange trace_headers traceparent_of forwarded));

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

# what reaches the upstream is what the span says

sub forwarded {
    my ($request, $span, $name, $prefix) = @_;
    my @expected = 'traceparent: ' . traceparent_of($span);

    push @expected, "tracestate: $span->{trace_state}"
        if length($span->{trace_state} // '');

    Test::More::is_deeply([trace_headers($request)],
        [map { ($prefix // '') . $_ } @expected], "$name - headers out");
}

sub check_exchange {
    my ($e, $response, $request, $span, $name, $prefix) = @_;
    my $flags = hex($e->{flags} // ($e->{trace} ? '01' : '03'));

    Test::More::like($response, qr{\AHTTP/1\.1 200 }, "$name - status");

    if ($span) {
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
        Test::More::is($span->{flags},
            $flags | ($e->{trace} ? 0x300 : 0x100), "$name - flags");
    }

    if ($e->{left}) {
        Test::More::is_deeply([trace_headers($request)], $e->{left},
            "$name - headers out");

    } else {
        forwarded($request, $span, $name, $prefix);
    }
}

sub run_exchanges {
    my ($block, $check) = @_;
    my $name = $block->name;
    my $prefix = $block->prefix // '';
    my @exchanges = @{$block->exchanges};
    my ($n, @responses) = 0;

    $prefix =~ s/\s//g;
    connection();                   # waits until nginx listens

    for my $e (@exchanges) {
        push @responses,
            exchange(request("/t", @{$e->{send} || []}), $e->{to});
        $n += $e->{spans} // 1;
    }

    my @requests = upstream()->requests(scalar @exchanges);
    my @all = spans_until($n);
    my @spans = @all;

    Test::More::is(scalar @requests, scalar @exchanges, "$name - requests");
    Test::More::is(scalar @spans, $n, "$name - spans");

    for my $i (0 .. $#exchanges) {
        my $e = $exchanges[$i];

        check_exchange($e, $responses[$i], $requests[$i],
            ($e->{spans} // 1) ? shift @spans : undef,
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

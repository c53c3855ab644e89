# The leak test, which goes over all that every nginx of the suite sends: that
# it sees what it is there for, and nothing else.

use strict;
use warnings;

use File::Temp;
use IO::Compress::Gzip qw(gzip);
use Test::More;

use Leak;
use Nginx;
use Receiver;

my ($trace, $span) = ('4bf92f3577b34da6a3ce929d0e0e4736', '00f067aa0ba902b7');
my $user = '0af7651916cd43dd8448eb211c80319c';
my $config = 'trace_exporter internal { endpoint unix:/s; }
    trace_exporter user { endpoint unix:/s; routing_header x-tenant; }
    trace_context internal propagate header=x-op-traceparent;
    trace internal on;';

# a length-delimited field

sub field { return pack('CC', $_[0] << 3 | 2, length $_[1]) . $_[1] }

sub export {
    my ($ids, $more, @headers) = @_;
    my ($trace_id, $span_id) = map { pack 'H*', $_ } @$ids;

    return post('traces', field(1, $trace_id) . field(2, $span_id) . $more,
        @headers);
}

# times, severity, flags, ids, and an attribute of this value

sub events {
    my ($ids, $value, @headers) = @_;
    my ($trace_id, $span_id) = map { pack 'H*', $_ } @$ids;

    return post('logs', pack('CQ<CQ<CCCL<', 0x09, 1, 0x59, 1, 0x10, 9, 0x45, 1)
        . field(9, $trace_id) . field(10, $span_id)
        . field(6, field(1, 'span.request_id') . field(2, field(1, $value))),
        @headers);
}

sub post {
    my ($what, $record, @headers) = @_;
    my $body = field(1, field(2, field(2, $record)));

    gzip(\(my $raw = $body), \$body) if grep { /gzip/ } @headers;

    return { from => 'nginx', received => '', sent => join "\r\n",
        "POST /v1/$what HTTP/1.1", 'User-Agent: OTel-OTLP-Exporter-C/0',
        @headers, 'Content-Length: ' . length $body, '', $body };
}

my $internal = export([$trace, $span], field(5, 'GET /'));

sub user_export {
    return export([$user, 'b7ad6b7169203331'], field(5, $_[0]),
        $_[1] // 'x-tenant: acme');
}

# lines of a request or a response

sub lines { return join "\r\n", @_, '', '' }
sub client { return { from => 'client', received => $_[0], sent => $_[1] } }
sub upstream { return { from => 'nginx', received => '', sent => $_[0] } }

sub finds {
    my ($flows, $expected, $name, $shows) = @_;

    is_deeply([Leak::complaints([$internal, @$flows], $config, $shows)],
        $expected, $name);
}

my $get = lines('GET / HTTP/1.1', 'Host: a');
my $ok = lines('HTTP/1.1 200 OK');
my $half = substr $trace, 0, 16;
my $bytes = pack 'H*', $span;

subtest 'what is as it should be' => sub {
    finds([], [], 'an internal export');
    finds([user_export('GET /')], [], 'one of each');
    finds([client($get, $ok)], [], 'a response');
    finds([upstream(lines('GET / HTTP/1.0',
        "x-op-traceparent: 00-$trace-$span-01", 'x-op-tracestate: a=1',
        "traceparent: 00-$user-b7ad6b7169203331-01"))], [],
        'an upstream that gets the headers of both');
    finds([upstream("7HTTP_X_OP_TRACEPARENT00-$trace-$span-01"),
           upstream("HTTP_X_OP_TRACEPARENT\0" . "00-$trace-$span-01\0"),
           upstream("HTTP_X_OP_TRACEPARENT7\0" . "00-$trace-$span-01")], [],
        'as a parameter of FastCGI, SCGI and uwsgi');
    finds([client(lines('GET / HTTP/1.1', "traceparent: 00-$trace-$span-01"),
        $ok), user_export("GET $trace $bytes")], [],
        'ids that the client has sent as those of the user');
};

subtest 'in an export of the user pipeline' => sub {
    finds([user_export("GET $trace")], ["export: id $trace"], 'a trace-id');
    finds([user_export(uc "get $span")], ["export: id $span"],
        'a span-id in upper case');
    finds([user_export("GET $bytes")], ["export: id as bytes $span"],
        'a span-id as bytes');
    finds([user_export('GET ' . pack 'H*', $trace)],
        ["export: id as bytes $half"], 'a trace-id as bytes');
    finds([user_export('X-Op-TraceParent')], ['export: name X-Op-TraceParent'],
        'a name');
    finds([user_export('x_op_tracestate')], ['export: name x_op_tracestate'],
        'the other one, with _');
    finds([user_export('a INTERNAL-MARKER-b c')],
        ['export: marker INTERNAL-MARKER-b'], 'a marker');
    finds([user_export('GET /', "x-tenant: $span")], ["export: id $span"],
        'a header');
    finds([user_export("GET $trace",
        "Content-Encoding: gzip\r\nx-tenant: acme")], ["export: id $trace"],
        'what is compressed');
    finds([events([$user, 'b7ad6b7169203331'], $span, 'x-tenant: acme')],
        ["export: id $span"], 'an event');
};

subtest 'an id that was announced, and not exported' => sub {
    my ($other, $its) = ('11223344556677889900aabbccddeeff',
        '1234567890abcdef');
    my $announced = events([$other, $its], 'x');

    finds([$announced, client($get, "$ok$its")], ["response: id $its"],
        'in a response');
    finds([$announced, user_export(pack 'H*', $other)],
        ['export: id as bytes ' . substr $other, 0, 16], 'in a user export');
    finds([$announced, events([$user, $its], 'x', 'x-tenant: acme')],
        ["export: id as bytes $its"], 'in an event of a user');
};

subtest 'in a response' => sub {
    finds([client($get, lines('HTTP/1.1 200 OK', "x: $trace"))],
        ["response: id $trace"], 'a header');
    finds([client($get, "${ok}a${span}b")], ["response: id $span"], 'a body');
    finds([client($get, "$ok$bytes")], ["response: id as bytes $span"],
        'bytes');
    finds([client($get, lines('HTTP/1.1 200 OK', 'x-op-traceparent: a'))],
        ['response: name x-op-traceparent'], 'a name');
    finds([client(lines('GET / HTTP/1.1',
        "x-op-traceparent: 00-$trace-$span-01"), "$ok$trace")],
        ["response: id $trace"], 'also what came in an internal header');
    finds([client($get, "$ok$trace INTERNAL-MARKER")],
        ['response: marker INTERNAL-MARKER'], 'shown, but for markers',
        'response');
};

subtest 'in a request to an upstream' => sub {
    my @own = ("traceparent: 00-$trace-b7ad6b7169203331-01");

    finds([upstream(lines('GET / HTTP/1.0', @own))], ["upstream: id $trace"],
        'in the header of the user');
    finds([upstream(lines("GET /$span HTTP/1.0"))], ["upstream: id $span"],
        'in the request line');
    finds([upstream(lines('GET / HTTP/1.0', @own)),
           client(lines('GET / HTTP/1.0', @own), $ok)],
        ["upstream: id $trace"], 'though nginx itself has got it there');
    finds([upstream("${get}INTERNAL-MARKER")],
        ['upstream: marker INTERNAL-MARKER'], 'a marker in a body');
    finds([upstream(lines('GET / HTTP/1.0',
        "x-op-traceparent: 00-$user-b7ad6b7169203331-00")), user_export('GET')],
        [map { 'export: id as bytes ' . substr $_, 0, 16 }
            $user, 'b7ad6b7169203331'],
        'what was sent in an internal header is internal, recorded or not');
};

# one that tells a span-id over HTTP/1 and a trace-id over HTTP/2

SKIP: {
    skip 'no wiretap', 1 if !$ENV{TEST_NGINX_LD_PRELOAD};

    my $dir = File::Temp->newdir();
    my $receiver = Receiver->new(socket => "$dir/otlp.sock");
    my $nginx = Nginx->new(shows_internal => 'response', main => 'user root;',
        http => "trace_exporter internal { endpoint unix:$dir/otlp.sock;
                                           interval 20ms; }
            trace internal on;",
        server => "location / { add_header x \$internal_span_id; return 204; }
            location /h2 {
                grpc_hide_header y;
                grpc_pass grpc://unix:$dir/h2.sock;
            }
        }
        server {
            listen unix:$dir/h2.sock http2;
            location / { add_header y \$internal_trace_id; return 200; }")
        ->start;

    $nginx->get($_) for '/', '/h2';
    $receiver->wait_spans(4);

    my @complaints = Leak::complaints(Leak::flows($nginx->{leak}{dir}),
        'trace internal on;');

    like("@complaints", qr/\Aresponse:\ id\ (?:\w{16}\ response:\ id\ \w{32}
        |\w{32}\ response:\ id\ \w{16})\z/x, 'what nginx tells is seen');
}

done_testing();

# What no client should send: it is served as without the module, and what goes
# out and what is recorded is valid all the same.

use strict;
use warnings;
use Hostile;
use Test::More;

our $T = '0af7651916cd43dd8448eb211c80319c';
our $P = 'b7ad6b7169203331';
our $VALID = "traceparent: 00-$T-$P-01";

# one server with both pipelines on, one with the module off

our $HTTP = <<'_EOC_';
large_client_header_buffers 128 64k;
proxy_buffer_size 64k;
proxy_buffers 64 64k;
proxy_busy_buffers_size 128k;
server {
    listen unix:$TEST_NGINX_DIR/on.sock;
    trace internal on;
    trace user on;
    trace_context user propagate header=x-u-traceparent;
    trace_trusted user all;
    trace_routing acme;
    location / { proxy_pass http://$TEST_NGINX_UPSTREAM; }
}
server {
    listen unix:$TEST_NGINX_DIR/off.sock;
    location / { proxy_pass http://$TEST_NGINX_UPSTREAM; }
}
_EOC_

compare(http => $HTTP, prefixes => ['', 'x-u-']);

# a number below another, the same in each run

my $seed = 20;

sub main::below {
    $seed = ($seed * 1103515245 + 12345) & 0x7fffffff;
    return ($seed >> 8) % $_[0];
}

sub main::one_of {
    return $_[main::below(scalar @_)];
}

# bytes that nginx lets through in a value: all but NUL, LF and CR

sub main::junk {
    my $n = shift;

    return join '',
        map { chr main::one_of(1 .. 9, 11, 12, 14 .. 255) } 1 .. $n;
}

sub main::hostile_header {
    my $case = sub { join '', map { main::below(2) ? uc : lc } split //, shift };
    my $name = $case->(main::one_of(qw(traceparent tracestate
        x-u-traceparent x-u-tracestate)));
    my $value = main::one_of(
        sub { '' },
        sub { ' ' x main::below(20) . "\t" x main::below(20) },
        sub { main::junk(1 + main::below(300)) },
        sub { "00-$T-$P-01" },
        sub { "\t00-$T-$P-" . main::junk(2) },
        sub { uc "00-$T-$P-0a" },
        sub { "ff-$T-$P-01" },
        sub { "cc-$T-$P-01-" . main::junk(main::below(50)) },
        sub { '00-' . 0 x 32 . '-' . 0 x 16 . '-00' },
        sub { substr "00-$T-$P-01", 0, main::below(55) },
        sub { 'a=1,' x main::below(200) },
        sub { join ',', map { "k$_=" . 'v' x main::below(30) }
                  1 .. main::below(40) },
        sub { ',' x main::below(100) },
        sub { 'k' . main::below(1000) . '=' . 'v' x main::below(256) },
        sub { 'x' x main::below(3000) })->();

    return "$name: $value" if main::below(8);

    return main::one_of(
        sub { 'x-other-' . main::below(100) . ': ' . main::junk(20) },
        sub { "trace_parent: $value" },
        sub { "x_u_traceparent: $value" },
        sub { "traceparent\x80: $value" },
        sub { "traceparents: $value" },
        sub { "traceparen: $value" },
        sub { 'x-long: ' . 'y' x main::below(5000) })->();
}

sub main::hostile_request {
    return main::raw('GET /t HTTP/1.1', 'Host: localhost',
        'Connection: close', map { main::hostile_header() } 1 .. $_[0]);
}

no_long_string();
run_tests();

__DATA__

=== TEST 1: a thousand hostile headers
--- statuses: 200
--- same eval
[main::hostile_request(1000)]



=== TEST 2: a hundred requests with a few of them
--- statuses: 200
--- same eval
[map { main::hostile_request(1 + main::below(12)) } 1 .. 100]



=== TEST 3: fifty traceparent and fifty tracestate
--- statuses: 200
--- same eval
[main::raw('GET /t HTTP/1.1', 'Host: localhost', 'Connection: close',
    map { ("traceparent: 00-$::T-$::P-01", "tracestate: k$_=1") } 1 .. 50),
 main::raw('GET /t HTTP/1.1', 'Host: localhost', 'Connection: close',
    map { ("X-U-TraceParent: 00-$::T-$::P-01", "traceParent: ",
           "X-U-Tracestate: a=1") } 1 .. 50)]



=== TEST 4: tracestate of 6, 32 and 60 kilobytes
--- statuses: 200
--- same eval
[map {
    my $size = $_;
    map { main::raw('GET /t HTTP/1.1', 'Host: localhost', 'Connection: close',
              $::VALID, 'tracestate: ' . substr $_ x $size, 0, $size * 1024) }
        'a', 'a=1,', ',', ' ,', "\t", 'a=' . 'x' x 254 . ',', '=', "\xff"
} 6, 32, 60]



=== TEST 5: one of thousands of members
--- statuses: 200
--- same eval
my $i = 0;

[main::raw('GET /t HTTP/1.1', 'Host: localhost', 'Connection: close', $::VALID,
    map { 'tracestate: ' . CORE::join ',', map { $i++; "k$i=$i" } 1 .. 200 }
        1 .. 100)]



=== TEST 6: NUL anywhere
--- statuses: 400
--- same eval
[map { main::raw('GET /t HTTP/1.1', 'Host: localhost', 'Connection: close',
           @$_) }
     ["traceparent: 00-$::T-$::P-01\0"],
     ["traceparent: \0"],
     ["trace\0parent: 00-$::T-$::P-01"],
     [$::VALID, "tracestate: a=1\0,b=2"],
     ["x: \0", $::VALID]]



=== TEST 7: line ends where none should be
--- statuses: \d\d\d
--- same eval
[map { main::raw('GET /t HTTP/1.1', 'Host: localhost', 'Connection: close',
           @$_) }
     ["traceparent: 00-$::T\r-$::P-01"],
     ["traceparent: 00-$::T-$::P-01\r", 'x: 1'],
     ["traceparent:\n 00-$::T-$::P-01"],
     ["traceparent: 00-$::T-$::P-01\n", 'x: 1'],
     ["$::VALID\nx-after: 1", 'tracestate: a=1'],
     [" $::VALID"],
     ["$::VALID", " continued: 1"],
     ["$::VALID", "\tcontinued"],
     ['traceparent'],
     ['traceparent', 'tracestate']]



=== TEST 8: more than nginx takes
--- statuses: 400
--- same eval
[map { main::raw('GET /t HTTP/1.1', 'Host: localhost', 'Connection: close',
           @$_) }
     ['traceparent: ' . 'x' x 70000],
     [$::VALID, 'tracestate: ' . 'a' x 70000],
     [$::VALID, 'x' x 70000 . ': 1']]



=== TEST 9: request lines of all kinds
--- statuses: \d\d\d
--- same eval
[map { main::raw($_, 'Host: localhost', 'Connection: close', $::VALID,
           'tracestate: a=1') }
     'GET /t HTTP/1.0', 'HEAD /t HTTP/1.1', 'OPTIONS * HTTP/1.1',
     'GET http://other/t HTTP/1.1', 'GET /%00 HTTP/1.1', "GET /\x01 HTTP/1.1",
     "GET /\xff HTTP/1.1", 'GET /../.. HTTP/1.1', 'GET /t HTTP/9.9',
     'GET t HTTP/1.1', 'get /t HTTP/1.1', 'GARBAGE', "\x16\x03\x01",
     'TRACE /t HTTP/1.1', 'CONNECT a:1 HTTP/1.1', 'WHATEVER /t HTTP/1.1',
     'GET /' . 'x' x 70000 . ' HTTP/1.1']



=== TEST 10: hosts that are none, or too many
--- statuses: \d\d\d
--- same eval
[map { main::raw('GET /t HTTP/1.1', 'Connection: close', $::VALID, @$_) }
     [], ['Host:'], ['Host: a', 'Host: b'], ["Host: \xff\xfe"],
     ['Host: a/b'], ["Host: a\x01b"], ['Host: ' . 'x' x 30000]]



=== TEST 11: requests in a pipeline
--- config
--- http eval: $::HTTP
--- client eval
my $requests = CORE::join '', map { main::hostile_request(20) } 1 .. 20;
my $last = main::hostile_request(20);

$requests =~ s/^Connection: close\r\n//mg;

sub {
    main::connection();
    my %response = map {
        $_ => main::exchange("$requests$last",
                             "unix:$ENV{TEST_NGINX_DIR}/$_.sock")
    } qw(on off);

    main::ok(main::comparable($response{on})
             eq main::comparable($response{off}), 'responses');

    my @got = main::upstream()->requests(42);
    main::is(scalar @got, 42, 'requests');
    main::same_upstream("request $_", $got[$_], $got[$_ + 21]) for 0 .. 20;
}
--- span_count: 42
--- check_spans eval
sub {
    my %ids = map { $_->{span_id} => 1 } @_;

    main::is(scalar @_, 42, 'spans');
    main::is(scalar keys %ids, 42, 'span-ids');
}



=== TEST 12: bytes that are not UTF-8 do not cost a span
--- config
location ~ ^/ {
    trace internal on;
    trace_attribute internal x.header $http_x_header;
    trace_attribute internal http.request.header.x-header $http_x_header;
    trace_attribute internal x.arg $arg_a;
    trace_attribute internal x.uri $uri;
    trace_attribute internal x.decoded $decoded;
    return 200;

    location ~ ^/d/(?<decoded>.*)$ {
        return 200;
    }
}
--- client eval
sub {
    # overlong, surrogates, cut off, alone, above U+10FFFF, never used
    for my $bytes ("\xc0\xaf", "\xe0\x80\xaf", "\xf0\x80\x80\xaf",
                   "\xed\xa0\x80", "\xed\xbf\xbf", "\xe2\x82", "\xf0\x9f\x98",
                   "\xc3", "\x80", "\xbf\xbf", "\xf4\x90\x80\x80",
                   "\xf8\x88\x80\x80\x80", "\xfe", "\xff")
    {
        my $bad = "<$bytes>";
        my $escaped = "<" . CORE::join('', map { sprintf '%%%02x', ord }
            split //, $bytes) . ">";

        main::like(main::talk(main::raw("GET /$bad?a=$bad HTTP/1.1",
            "Host: h$bytes.example", 'Connection: close', "User-Agent: $bad",
            "X-Header: $bad")), qr{ 200 }, 'raw');
        main::like(main::talk(main::raw("GET /d/$escaped HTTP/1.1",
            "Host: localhost", 'Connection: close')), qr{ 200 }, 'escaped');
    }
}
--- span_count: 28
--- check_spans eval
sub {
    my @spans = @_;
    my $replaced = qr/\A\/?<\x{fffd}+>\z/;

    main::is(scalar @spans, 28, 'spans');

    while (my ($raw, $escaped) = splice @spans, 0, 2) {
        my $attributes = $raw->{attributes};

        main::like($attributes->{$_}, $replaced, $_)
            for qw(url.path user_agent.original x.header x.arg x.uri);
        main::like($attributes->{'url.query'}, qr/\Aa=<\x{fffd}+>\z/, 'query');
        main::like($attributes->{'http.request.header.x-header'}[0],
            $replaced, 'header');
        main::like($attributes->{'server.address'},
            qr/\Ah\x{fffd}+\.example\z/, 'host');
        main::like($escaped->{attributes}{'x.decoded'}, $replaced, 'decoded');
    }
}



=== TEST 13: nor do the span's name and tracestate
--- config
location ~ ^/ {
    trace internal on;
    trace_span_name $arg_a;
    return 200;
}
--- client eval
sub {
    main::talk(main::request("/?a=a\xffz", $::VALID, "tracestate: a=\xff"));
    main::talk(main::request("/?a=%ff\xed\xa0\x80", $::VALID));
}
--- spans eval
[{ name => "a\x{fffd}z", trace_id => $::T },
 { name => qr/\A%ff\x{fffd}+\z/, trace_id => $::T }]



=== TEST 14: UTF-8 stays what it is
--- config
location ~ ^/ {
    trace internal on;
    trace_attribute internal x.arg $arg_a;
    return 200;
}
--- client eval
sub {
    main::talk(main::request("/?a=\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80"
        . "\xed\x9f\xbf\xee\x80\x80\xf4\x8f\xbf\xbf\xef\xbf\xbd"));
}
--- spans eval
[{ attributes => { 'x.arg' =>
    "\x{e4}\x{20ac}\x{1f600}\x{d7ff}\x{e000}\x{10ffff}\x{fffd}" } }]



=== TEST 15: a routing that is no header value costs its own span alone
--- http
map $uri $routing {
    ~^/r/(?<rest>(?s:.*))$ $rest;
}
--- config
location ~ ^/ {
    trace user on;
    trace_routing $routing;
    trace_attribute user n $arg_n;
    return 200;
}
--- client eval
sub {
    my $n = 0;

    for my $routing ('a%0d%0aX-Evil: 1', '%0d%0a%0d%0aPOST / HTTP/1.1', 'a%0a',
                     'a%0d', '%0a', 'a%01b', 'a%7f', 'a%80', 'a%c3%a4', '%09a',
                     '%20a', 'a%20', '%20', '', 'x' x 1025)
    {
        main::like(main::talk(main::request($_)), qr{ 200 }, 'status')
            for "/r/good?n=" . $n++, '/r/' . $routing =~ s/ /%20/gr;
    }

    main::like(main::talk(main::request('/r/' . 'x' x 1024 . '?n=15')),
        qr{ 200 }, 'the longest');
    main::like(main::talk(main::request("/r/$_")), qr{ 200 }, 'printable')
        for '!"%23$%25&()*+,-.:;<=%3e%3f@[]^_`{|}~?n=16', 'a%20b?n=17';
}
--- span_count: 18
--- check_spans eval
sub {
    my %tenants = map { $_->{attributes}{n} => $_->{headers}{'x-tenant'} } @_;

    main::is_deeply(\%tenants, {
        (map { $_ => 'good' } 0 .. 14), 15 => 'x' x 1024,
        16 => '!"#$%&()*+,-.:;<=>?@[]^_`{|}~', 17 => 'a b' }, 'tenants');
    main::unlike(CORE::join("\n", map { %{$_->{headers}} } @_),
        qr/evil|post/i, 'headers');
}



=== TEST 16: a routing may not be given twice by arguments or bytes
--- config
location ~ ^/ {
    trace user on;
    trace_routing $arg_t;
    return 200;
}
--- client eval
sub {
    main::like(main::talk(main::raw("GET /?t=$_ HTTP/1.1", 'Host: localhost',
        'Connection: close')), qr{ 200 }, 'status')
        for 'good', "a\x80", "\xc3\xa4", "\xff", 'a%0d%0ax:1', 'good';
}
--- check_spans eval
sub {
    main::is_deeply([map { $_->{headers}{'x-tenant'} } @_],
        ['good', 'a%0d%0ax:1', 'good'], 'tenants');
}
--- span_count: 3



=== TEST 17: URIs and headers of 32 kilobytes
--- http eval: $::HTTP
--- config
large_client_header_buffers 8 64k;
location ~ ^/ {
    trace internal on;
    return 200;
}
--- client eval
sub {
    main::like(main::talk(main::raw('GET /' . 'p' x 32767 . ' HTTP/1.1',
        'Host: localhost', 'Connection: close', $::VALID)), qr{ 200 }, 'path');
    main::like(main::talk(main::raw('GET /?' . 'q' x 32767 . ' HTTP/1.1',
        'Host: localhost', 'Connection: close', $::VALID)), qr{ 200 }, 'query');
    main::like(main::talk(main::raw('GET / HTTP/1.1', 'Host: localhost',
        'Connection: close', 'User-Agent: ' . 'u' x 32768, $::VALID)),
        qr{ 200 }, 'user agent');
}
--- spans eval
[{ trace_id => $::T, attributes => { 'url.path' => '/' . 'p' x 32767 } },
 { trace_id => $::T, attributes => { 'url.path' => '/',
                                     'url.query' => 'q' x 32767 } },
 { trace_id => $::T, attributes => {
     'user_agent.original' => 'u' x 32768 } }]



=== TEST 18: what a span has no room for is counted, and the span arrives
--- http eval: $::HTTP
--- config
large_client_header_buffers 8 64k;
location ~ ^/ {
    trace internal on;
    trace_attribute internal last end$arg_z;
    return 200;
}
--- client eval
sub {
    main::like(main::talk(main::raw(
        'GET /' . 'p' x 30000 . '?' . 'q' x 30000 . ' HTTP/1.1',
        'Host: localhost', 'Connection: close', 'User-Agent: ' . 'u' x 60000,
        $::VALID)), qr{ 200 }, 'status');
}
--- spans eval
[{ trace_id => $::T, dropped_attributes_count => 1,
   attributes => { 'url.path' => '/' . 'p' x 30000,
                   'url.query' => 'q' x 30000,
                   'user_agent.original' => undef, 'last' => 'end' } }]



=== TEST 19: a hundred attributes
--- config eval
"location ~ ^/ {
    trace internal on;
" . CORE::join('', map { "    trace_attribute internal x.$_ \$arg_a$_;\n" }
    1 .. 100) . "
    return 200;
}"
--- client eval
sub {
    main::talk(main::request('/?' . CORE::join '&',
        map { "a$_=v$_" } 1 .. 100));
}
--- spans eval
[{ attributes => { map { ("x.$_" => "v$_") } 1 .. 100 } }]

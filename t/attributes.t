# Attributes: the default ones by the semantic conventions, and those of
# trace_attribute; and the span's name.

use strict;
use warnings;
use TraceTest;

our $json = JSON::PP->new->canonical->allow_nonref;

my $cert = receiver_dir() . '/cert';
system("openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost"
       . " -keyout $cert.key -out $cert.pem > $cert.log 2>&1");

# the answer to a curl command

sub curl {
    my $curl = "curl -sS -k --max-time 10 @_ 2>&1";

    return scalar `$curl`;
}

# what is in a span of type, too: 1 is not "1"

sub typed {
    my ($span, @names) = @_;

    return $json->encode([map { $span->{attributes}{$_} } @names]);
}

no_long_string();
run_tests();

__DATA__

=== TEST 1: types of attributes
--- config
location /t {
    trace internal on;
    trace_attribute internal a.string 12;
    trace_attribute internal b.string 12 type=string;
    trace_attribute internal c.int -12 type=int;
    trace_attribute internal d.double 1.5e-1 type=double;
    trace_attribute internal e.bool 1 type=bool;
    trace_attribute internal f.bool 0 type=bool;
    trace_attribute internal g.bool off type=bool;
    trace_attribute internal h.bool false type=bool;
    trace_attribute internal i.bool no type=bool;
    trace_attribute internal j.string $arg_n;
    trace_attribute internal k.int $arg_n type=int;
    trace_attribute internal l.double $arg_n.25 type=double;
    trace_attribute internal m.bool $arg_n type=bool;
    trace_attribute internal n.bool $arg_z type=bool;
    trace_attribute internal o.mixed "$arg_n and $arg_z";
    trace_attribute internal http.request.header.x-a $http_x_a;
    trace_attribute internal http.response.header.b constant;
    trace_attribute internal http.request.headers no;
    return 204;
}
--- client eval
sub { get(['X-A: one, two'], '/t?n=42&z=0') }
--- check_spans eval
sub {
    is(::typed($_[0], qw(a.string b.string c.int d.double e.bool f.bool g.bool
           h.bool i.bool)),
       '["12","12",-12,0.15,true,false,false,false,true]', 'constants');
    is(::typed($_[0], qw(j.string k.int l.double m.bool n.bool o.mixed)),
       '["42",42,42.25,true,false,"42 and 0"]', 'variables');
    is(::typed($_[0], qw(http.request.header.x-a http.response.header.b
           http.request.headers)),
       '[["one, two"],["constant"],"no"]', 'headers');
}



=== TEST 2: a value that is empty or no number makes no attribute
--- config
location /t {
    trace internal on;
    trace_attribute internal empty $arg_none;
    trace_attribute internal int $arg_v type=int;
    trace_attribute internal double $arg_v type=double;
    trace_attribute internal bool $arg_none type=bool;
    return 204;
}
--- client eval
sub {
    get(map { "/t?v=$_" } qw(x 1x - -- 1.5 0x10 inf nan 1e999
        9223372036854775807 9223372036854775808 -9223372036854775807
        99999999999999999999999999 -0 1e3 +1));
}
--- check_spans eval
sub {
    my %number = map {
        ($_->{attributes}{'url.query'} => ::typed($_, 'int', 'double'))
    } @_;
    my $none = '[null,null]';

    is($number{"v=$_"}, $none, $_) for qw(x 1x - -- 0x10 inf nan);
    is($number{'v=1.5'}, '[null,1.5]', '1.5');
    like($number{'v=9223372036854775807'}, qr/^\[9223372036854775807,/,
         'largest');
    like($number{'v=9223372036854775808'}, qr/^\[null,/, 'too large');
    like($number{'v=-9223372036854775807'}, qr/^\[-9223372036854775807,/,
         'smallest');
    like($number{'v=99999999999999999999999999'}, qr/^\[null,1e\+26/,
         'far too large');
    is($number{'v=1e3'}, '[null,1000]', '1e3');
    is(::typed($_, 'empty', 'bool'), '[null,null]', 'empty') for @_;
}
--- span_count: 16



=== TEST 3: conditions
--- config
location /t {
    trace internal on;
    trace_attribute internal constant yes if=$arg_c;
    trace_attribute internal variable $uri if=$arg_c;
    trace_attribute internal two $uri "if=$arg_c$arg_d";
    trace_attribute internal typed 5 if=$arg_c type=int;
    trace_attribute internal always 1 if=1;
    trace_attribute internal never 1 if=0;
    return 204;
}
--- client eval
sub { get('/t', '/t?c=1', '/t?c=0', '/t?c=off', '/t?d=0', '/t?c=0&d=0') }
--- check_spans eval
sub {
    is(::typed($_[$_->[0]], qw(constant variable two typed always never)),
       $_->[1], "request $_->[0]") for
        [0, '[null,null,null,null,"1",null]'],
        [1, '["yes","/t","/t",5,"1",null]'],
        [2, '[null,null,null,null,"1",null]'],
        [3, '["yes","/t","/t",5,"1",null]'],
        [4, '[null,null,null,null,"1",null]'],
        [5, '[null,null,"/t",null,"1",null]'];
}
--- span_count: 6



=== TEST 4: default attributes are replaced and removed, once each
--- config
location /t {
    trace internal on;
    trace user on;
    trace_routing acme;
    trace_context internal propagate header=x-op-traceparent;
    trace_attribute both url.path replaced;
    trace_attribute internal server.port 1 type=int;
    trace_attribute internal url.query $arg_q;
    trace_attribute both user_agent.original "";
    trace_attribute internal client.address $arg_none;
    trace_attribute user network.peer.address $remote_addr;
    trace_attribute both only.both 1;
    trace_attribute user only.user 1;
    return 204;
}
--- client eval
sub { get(['User-Agent: a'], '/t?q=5') }
--- spans eval
[
    { attributes => { 'url.path' => 'replaced', 'server.port' => 1,
        'url.query' => 5, 'user_agent.original' => undef,
        'client.address' => undef, 'network.peer.address' => '127.0.0.1',
        'only.both' => 1, 'only.user' => undef },
      dropped_attributes_count => 0 },
    { attributes => { 'url.path' => 'replaced', 'server.port' => 80,
        'url.query' => 'q=5', 'user_agent.original' => undef,
        'client.address' => undef, 'network.peer.address' => '127.0.0.1',
        'network.peer.port' => undef, 'only.both' => 1, 'only.user' => 1 } },
]



=== TEST 5: what does not fit in a span is left out and counted, the span stays
--- config
location /t {
    trace internal on;
    trace_attribute internal a.short 1;
    trace_attribute internal b.long "$http_x_a$http_x_b$http_x_c";
    trace_attribute internal c.short $request_method;
    return 204;
}
large_client_header_buffers 8 64k;
--- client eval
sub { get([map { "x-$_: " . 'x' x 30_000 } qw(a b c)], '/t') }
--- spans eval
[{ attributes => { 'a.short' => 1, 'b.long' => undef, 'c.short' => 'GET',
    'http.response.status_code' => 204 }, dropped_attributes_count => 1 }]



=== TEST 6: bytes that are not UTF-8
--- config
location /t {
    trace internal on;
    trace user on;
    trace_routing acme;
    trace_context internal propagate header=x-op-traceparent;
    trace_span_name "name $http_x_a";
    trace_attribute both value $http_x_a;
    trace_attribute both http.request.header.x-a $http_x_a;
    return 204;
}
--- client eval
sub {
    get(["X-A: a\xff\xc3\x28\xe2\x82\xed\xa0\x80\xf0\x9f\x98\x80z",
         "User-Agent: \x80"], "/t\xfe?q=\xc3\xa4\xc3");
}
--- check_spans eval
sub {
    my $a = qr/^a\x{fffd}+\(\x{fffd}+\x{1f600}z$/;

    for (@_) {
        my $attributes = $_->{attributes};

        like($attributes->{value}, $a, 'value');
        like($attributes->{'http.request.header.x-a'}[0], $a, 'header');
        like($_->{name}, qr/^name a\x{fffd}/, 'name');
        is($attributes->{'user_agent.original'}, "\x{fffd}", 'user agent');
        is($attributes->{'url.path'}, "/t\x{fffd}", 'path');
        is($attributes->{'url.query'}, "q=\x{e4}\x{fffd}", 'query');
    }
}
--- span_count: 2



=== TEST 7: methods
--- config
trace internal on;
location /m { return 204; }
--- client eval
sub {
    talk("$_ /m HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n") for
        qw(GET HEAD POST PUT DELETE OPTIONS PATCH QUERY PROPFIND FOO G GE
        GETT HEADS X-Y_Z);
}
--- spans eval
[(map { { name => "$_ /m", attributes => { 'http.request.method' => $_,
            'http.request.method_original' => undef } } }
    qw(GET HEAD POST PUT DELETE OPTIONS PATCH QUERY)),
 (map { { name => 'HTTP /m', attributes => { 'http.request.method' => '_OTHER',
            'http.request.method_original' => $_ } } }
    qw(PROPFIND FOO G GE GETT HEADS X-Y_Z))]



=== TEST 8: a query's secrets are redacted, and nothing else
--- config
location /t {
    trace internal on;
    return 204;
}
--- client eval
sub {
    $::queries = [
        ['sig=secret', 'sig=REDACTED'],
        ['Signature=secret&a=b', 'Signature=REDACTED&a=b'],
        ['a=b&X-Goog-Signature=secret', 'a=b&X-Goog-Signature=REDACTED'],
        ['a=b&AWSAccessKeyId=secret&c=d', 'a=b&AWSAccessKeyId=REDACTED&c=d'],
        ['sig=a&sig=b&x&Signature=c=d', 'sig=REDACTED&sig=REDACTED&x&'
         . 'Signature=REDACTED'],
        ['sig=', 'sig=REDACTED'], ['sig=&sig=', 'sig=REDACTED&sig=REDACTED'],
        ['&sig=a&', '&sig=REDACTED&'], ['&&sig=a', '&&sig=REDACTED'],
        ['sig=' . 'x' x 3000, 'sig=REDACTED'],
        ['a=sig=secret?sig=no', 'a=sig=secret?sig=no'],
        (map { [$_, $_] } 'sig', 'sig&sig', 'sig&a=b', 'sigg=a', 'xsig=a',
            'SIG=a', 'signature=a', 'sig2=a&b=sig', 'x=1;sig=a', '&', '=',
            'a', '%73ig=a'),
        ['', undef],
    ];
    get('/t', map { "/t?$_->[0]" } @$::queries);
}
--- check_spans eval
sub {
    is($_[0]{attributes}{'url.query'}, undef, 'none');
    is($_[$_ + 1]{attributes}{'url.query'}, $::queries->[$_][1],
       substr $::queries->[$_][0], 0, 40) for 0 .. $#$::queries;
}
--- span_count: 26



=== TEST 9: the path as it came, without query
--- config
trace internal on;
rewrite ^/old(.*) /new$1?added=1;
location /new { return 204; }
--- client eval
sub { get('/old/%61/../b//c?q=1', '/new?', '/new#fragment', '/new/%3f?a?b') }
--- spans eval
[map { { attributes => { 'url.path' => $_->[0], 'url.query' => $_->[1],
                         'http.route' => '/new' } } }
    ['/old/%61/../b//c', 'q=1'], ['/new', undef], ['/new#fragment', undef],
    ['/new/%3f', 'a?b']]



=== TEST 10: the host and port that the client wrote
--- config
trace internal on;
location /t { return 204; }
--- client eval
sub {
    talk("GET /t HTTP/1.0\r\n$_\r\n\r\n") for 'Host: example.com',
        'Host: example.com:8080', 'Host: EXAMPLE.com:', 'Host: 192.0.2.1:81',
        'Host: [::1]', 'Host: [2001:db8::1]:8443', 'Host: a.b.:65535', 'X: y';
    talk("GET http://$_/t HTTP/1.1\r\nHost: other:99\r\n"
         . "Connection: close\r\n\r\n") for 'example.com', 'example.com:8080',
        '[::1]:81', 'example.com:';
    talk("GET http://example.com:82?q HTTP/1.1\r\nHost: other:99\r\n"
         . "Connection: close\r\n\r\n");
}
--- spans eval
[map { { attributes => { 'server.address' => $_->[0],
                         'server.port' => $_->[1] } } }
    ['example.com', 80], ['example.com', 8080], ['example.com', 80],
    ['192.0.2.1', 81], ['::1', 80], ['2001:db8::1', 8443], ['a.b', 65535],
    [undef, undef], ['example.com', 80], ['example.com', 8080], ['::1', 81],
    ['example.com', 80], ['example.com', 82]]



=== TEST 11: the client's address is realip's, the peer is the socket's
--- config
set_real_ip_from 127.0.0.1;
real_ip_header X-Real-IP;
location /t {
    trace internal on;
    trace user on;
    trace_routing acme;
    trace_context internal propagate header=x-op-traceparent;
    return 204;
}
--- client eval
sub {
    get(['X-Real-IP: 192.0.2.7'], '/t');
    get(['X-Real-IP: 2001:db8::7'], '/t');
    get(['X-Real-IP: garbage'], '/t');
    get('/t');
}
--- spans eval
[
    (map { { attributes => { 'client.address' => $_,
        'network.peer.address' => '127.0.0.1',
        'network.peer.port' => qr/^[1-9]\d*$/ } } }
        '192.0.2.7', '2001:db8::7', '127.0.0.1', '127.0.0.1'),
    ({ attributes => { 'client.address' => undef,
        'network.peer.address' => undef, 'network.peer.port' => undef } }) x 4
]
--- check_spans eval
sub {
    isnt($_[0]{attributes}{'network.peer.port'},
         $_[1]{attributes}{'network.peer.port'}, 'ports');
}



=== TEST 12: a client on a Unix socket has no address
--- http
server {
    listen unix:$TEST_NGINX_DIR/server.sock;
    trace internal on;
    return 204;
}
--- config
--- client eval
sub {
    ::curl("--unix-socket $ENV{TEST_NGINX_DIR}/server.sock http://a:1/");
}
--- spans eval
[{ attributes => { 'client.address' => undef, 'network.peer.address' => undef,
    'network.peer.port' => undef, 'server.address' => 'a',
    'server.port' => 1 } }]



=== TEST 13: https, and HTTP/2
--- http
server {
    listen unix:$TEST_NGINX_DIR/ssl.sock ssl http2;
    ssl_certificate $TEST_NGINX_DIR/cert.pem;
    ssl_certificate_key $TEST_NGINX_DIR/cert.key;
    trace internal on;
    location / { return 200 "hello\n"; }
}
server {
    listen unix:$TEST_NGINX_DIR/h2.sock http2;
    trace internal on;
    location / { return 200 "hello\n"; }
}
--- config
--- client eval
sub {
    my $ssl = "--unix-socket $ENV{TEST_NGINX_DIR}/ssl.sock";
    my $h2 = "--unix-socket $ENV{TEST_NGINX_DIR}/h2.sock";

    is(::curl("$ssl --http1.1 https://localhost/"), "hello\n", 'https');
    is(::curl("$ssl --http2 https://localhost:8443/"), "hello\n", 'and h2');
    is(::curl("$ssl --http2 https://localhost:8443/ -d 12345"), "hello\n",
       'with a body');
    is(::curl("$ssl --http2 https://localhost/ https://localhost/ -A ''"),
       "hello\nhello\n", 'two requests');
    is(::curl("$h2 --http2-prior-knowledge http://localhost:81/"), "hello\n",
       'h2 without TLS');
}
--- spans eval
[map { { name => "$_->[4] /", attributes => { 'url.scheme' => $_->[0],
    'server.address' => 'localhost', 'server.port' => $_->[1],
    'network.protocol.version' => $_->[2],
    'http.request.body.size' => $_->[3], 'http.response.body.size' => 6,
    'http.response.status_code' => 200, 'url.path' => '/',
    'user_agent.original' => $_->[5] } } }
    ['https', 443, '1.1', undef, 'GET', qr/curl/],
    ['https', 8443, '2', undef, 'GET', qr/curl/],
    ['https', 8443, '2', 5, 'POST', qr/curl/],
    (['https', 443, '2', undef, 'GET', undef]) x 2,
    ['http', 81, '2', undef, 'GET', qr/curl/]]



=== TEST 14: sizes of bodies
--- http
server {
    listen unix:$TEST_NGINX_DIR/upstream.sock;
    location / { return 200 "0123456789"; }
    location /chunked { chunked_transfer_encoding on; echo -n 012345678; }
}
--- config
trace internal on;
location /return { return 200 "hello\n"; }
location /proxy {
    proxy_pass http://unix:$TEST_NGINX_DIR/upstream.sock:/;
}
location /file { try_files /t.txt =404; }
location /empty { return 204; }
--- user_files eval
">>> t.txt\n" . 'x' x 100_000
--- client eval
sub {
    my $head = "HTTP/1.1\r\nHost: a\r\nConnection: close\r\n";
    my $chunked = "Transfer-Encoding: chunked\r\n\r\n"
        . "3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\n\r\n";

    talk("GET /return $head\r\n");
    talk("HEAD /return $head\r\n");
    talk("HEAD /file $head\r\n");
    talk("POST /proxy ${head}Content-Length: 7\r\n\r\nabcdefg");
    talk("POST /proxy ${head}Content-Length: 0\r\n\r\n");
    talk("POST /proxy $head$chunked");
    talk("POST /return ${head}Content-Length: 7\r\n\r\nabcdefg");
    talk("POST /return ${head}Content-Length: 70000\r\n\r\n" . 'x' x 70_000);
    talk("GET /file $head\r\n");
    talk("GET /empty $head\r\n");
    talk("GET /proxy $head\r\n");
}
--- check_spans eval
sub {
    my @sizes = map { ::typed($_, 'http.request.body.size',
                              'http.response.body.size') } @_;

    is_deeply(\@sizes, ['[null,6]', '[null,0]', '[null,0]', '[7,10]', '[0,10]',
        '[7,10]', '[7,6]', '[70000,6]', '[null,100000]', '[null,0]',
        '[null,10]'], 'request and response');
}
--- span_count: 11



=== TEST 15: the route is the location's pattern, where it can be reached from outside
--- config
trace internal on;
trace user on;
trace_routing acme;
trace_context internal propagate header=x-op-traceparent;
location /prefix/ {
    return 204;
    location /prefix/nested/ { return 204; }
}
location = /exact { return 204; }
location ^~ /caret/ { return 204; }
location ~ ^/regex/(\d+)$ { return 204; }
location ~* \.PNG$ { return 204; }
location /if { if ($arg_a) { return 204; } return 204; }
location /named { try_files /nosuch @named; }
location @named { return 204; }
location /internal { error_page 404 /hidden/page; return 404; }
location /hidden/ { internal; return 200 "hidden\n"; }
location "/with space" { return 204; }
--- client eval
sub {
    get('/prefix/a', '/prefix/nested/x/y', '/exact', '/caret/1', '/regex/42',
        '/a/b.png', '/if', '/if?a=1', '/with%20space', '/named', '/internal');
}
--- check_spans eval
sub {
    my @routes = ('/prefix/', '/prefix/nested/', '/exact', '/caret/',
        '^/regex/(\d+)$', '\.PNG$', '/if', '/if', '/with space');
    my @internal = map { "$_->{name} $_->{attributes}{'http.route'}" }
        @_[0 .. 10];
    my @user = map { "$_->{name} $_->{attributes}{'http.route'}" } @_[11 .. 19];

    is_deeply(\@internal, [map { "GET $_ $_" } @routes, '@named', '/hidden/'],
              'internal');
    is_deeply(\@user, [map { "GET $_ $_" } @routes], 'user');
    is($_->{name}, 'GET', 'user, not from outside') for @_[20, 21];
    is($_->{attributes}{'http.route'}, undef, 'no route') for @_[20, 21];
}
--- span_count: 22



=== TEST 16: names of one's own
--- config
trace internal on;
location /constant { trace_span_name "a constant"; return 204; }
location /variable { trace_span_name "$request_method $arg_n"; return 204; }
location /empty { trace_span_name $arg_n; return 204; }
location /long { trace_span_name $arg_n$arg_n$arg_n$arg_n; return 204; }
large_client_header_buffers 4 64k;
--- client eval
sub { get('/constant', '/variable?n=5', '/empty', '/long?n=' . 'x' x 20_000) }
--- check_spans eval
sub {
    is($_[0]{name}, 'a constant', 'constant');
    is($_[1]{name}, 'GET 5', 'variable');
    is($_[2]{name}, 'GET /empty', 'empty');
    is($_[3]{attributes}{'url.path'}, '/long', 'too long');
}
--- span_count: 4



=== TEST 17: all of the default attributes, few, or none
--- config
trace internal on;
trace user on;
trace_routing acme;
trace_context internal propagate header=x-op-traceparent;
trace_attribute both a b;
location /default { return 204; }
location /all { trace_default_attributes user all; return 204; }
location /minimal {
    trace_default_attributes internal minimal;
    location /minimal/inherited { return 204; }
    location /minimal/not {
        trace_default_attributes internal all;
        return 204;
    }
    return 204;
}
location /none {
    trace_default_attributes internal none;
    trace_default_attributes user none;
    return 204;
}
--- client eval
sub { get('/default', '/all', '/minimal', '/minimal/inherited', '/minimal/not',
          '/none') }
--- check_spans eval
sub {
    my ($all, undef, $minimal, @internal) = map {
        $_->{attributes}{'http.route'} = 'any' if $_->{attributes}{'http.route'};
        $::json->encode([sort keys %{$_->{attributes}}])
    } @_[0 .. 5];
    my @user = map { $::json->encode([sort keys %{$_->{attributes}}]) }
        @_[6 .. 11];

    like($all, qr/client\.address/, 'internal: all');
    unlike($minimal, qr/client\.address|network\.peer/, 'internal: minimal');
    is($internal[0], $minimal, 'inherited');
    is($internal[1], $all, 'changed back');
    is($internal[2], '["a"]', 'internal: none but its own');
    is($user[0], $minimal, 'user: minimal by itself');
    is($user[1], $all, 'user: all');
    is($user[5], '["a"]', 'user: none but its own');
}
--- span_count: 12



=== TEST 18: attempts, subrequests and redirects have as few
--- config
trace internal on;
trace_default_attributes internal minimal;
location /t {
    auth_request /auth;
    error_page 502 = @fallback;
    proxy_pass http://127.0.0.1:1;
}
location @fallback { return 503; }
location = /auth { internal; return 204; }
--- request
GET /t
--- error_code: 503
--- error_log
connect() failed
--- tree
SERVER GET @fallback 503 error=503 client.address=-
  * redirect http.route=@fallback url.path=-
  INTERNAL subrequest /auth 204 url.path=-
  CLIENT GET error=connect url.full=- server.address=- network.peer.address=-

# What goes out has the id of the request's span, whoever sends it: each
# upstream module, subrequests, and requests that are redirected.

use strict;
use warnings;
use Wire;

our $T = '0af7651916cd43dd8448eb211c80319c';
our $P = 'b7ad6b7169203331';
our $VALID = "traceparent: 00-$T-$P-01";
our $DIR = $ENV{TEST_NGINX_DIR};

# the listening sockets have to be there before nginx is

for my $protocol (qw(fastcgi scgi uwsgi)) {
    upstream($protocol);
    $ENV{'TEST_NGINX_' . uc $protocol} = "unix:$DIR/$protocol.sock";
}

# a request with a context, one without, and one with its headers double; then
# what each is to be

sub main::all_ways {
    my %e = @_;

    return ({ %e, send => [$VALID, 'TraceState: a=1', 'tracestate: b=2'],
              trace => [$T, $P], state => 'a=1,b=2' },
            { %e },
            { %e, send => [$VALID, 'tracestate: a=1', $VALID] });
}

# the value of a header at the upstream

sub main::value {
    my ($request, $name) = @_;

    my ($header) = grep { $_->[0] eq $name } @{$request->{headers}};

    return $header->[1];
}

no_long_string();
run_tests();

__DATA__

=== TEST 1: proxy, HTTP/1.0 and HTTP/1.1
--- config
trace internal on;
location /10 {
    proxy_http_version 1.0;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
location /11 {
    proxy_http_version 1.1;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
--- exchanges eval
[map { main::all_ways(uri => $_) } qw(/10 /11)]



=== TEST 2: proxy, to where a variable says
--- config
trace internal on;
location /t {
    set $upstream $TEST_NGINX_UPSTREAM;
    proxy_pass http://$upstream:/;
}
--- exchanges eval
[main::all_ways()]



=== TEST 3: proxy, over connections that are kept
--- http
upstream kept {
    server $TEST_NGINX_UPSTREAM;
    keepalive 1;
}
--- config
location /t {
    trace internal on;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_pass http://kept;
}
--- exchanges eval
[map { main::all_ways() } 1 .. 3]



=== TEST 4: proxy, with a body
--- config
location /t {
    trace internal on;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
--- exchanges eval
[{ bytes => "POST /t HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
       . "Content-Length: 5\r\n$::VALID\r\n\r\nhello", trace => [$::T, $::P],
   span => { attributes => { 'http.request.body.size' => 5 } } }]



=== TEST 5: fastcgi
--- config
location /t {
    trace internal on;
    fastcgi_param REQUEST_METHOD $request_method;
    fastcgi_param REQUEST_URI $request_uri;
    fastcgi_pass $TEST_NGINX_FASTCGI;
}
--- exchanges eval
[main::all_ways(protocol => 'fastcgi')]



=== TEST 6: scgi
--- config
location /t {
    trace internal on;
    scgi_param REQUEST_METHOD $request_method;
    scgi_param REQUEST_URI $request_uri;
    scgi_pass $TEST_NGINX_SCGI;
}
--- exchanges eval
[main::all_ways(protocol => 'scgi')]



=== TEST 7: uwsgi
--- config
location /t {
    trace internal on;
    uwsgi_param REQUEST_METHOD $request_method;
    uwsgi_param REQUEST_URI $request_uri;
    uwsgi_pass $TEST_NGINX_UWSGI;
}
--- exchanges eval
[main::all_ways(protocol => 'uwsgi')]



=== TEST 8: grpc, seen behind an nginx that is off
--- http
server {
    listen unix:$TEST_NGINX_DIR/h2.sock http2;
    location / { proxy_pass http://$TEST_NGINX_UPSTREAM; }
}
--- config
location /t {
    trace internal on;
    grpc_pass grpc://unix:$TEST_NGINX_DIR/h2.sock;
}
--- exchanges eval
[main::all_ways()]



=== TEST 9: headers of another name, with all of them
--- http
server {
    listen unix:$TEST_NGINX_DIR/h2.sock http2;
    location / { proxy_pass http://$TEST_NGINX_UPSTREAM; }
}
--- config
trace internal on;
trace_context internal propagate header=X-Op-Traceparent;
trace_trusted internal all;
location /t { proxy_pass http://$TEST_NGINX_UPSTREAM; }
location /fastcgi { fastcgi_pass $TEST_NGINX_FASTCGI; }
location /scgi { scgi_pass $TEST_NGINX_SCGI; }
location /uwsgi { uwsgi_pass $TEST_NGINX_UWSGI; }
location /grpc { grpc_pass grpc://unix:$TEST_NGINX_DIR/h2.sock; }
--- prefix: x-op-
--- exchanges eval
[map { { %$_, send => ["X-Op-$::VALID", 'x-op-tracestate: a=1'],
         trace => [$::T, $::P], state => 'a=1' } }
     { uri => '/t' },
     { uri => '/fastcgi', protocol => 'fastcgi' },
     { uri => '/scgi', protocol => 'scgi' },
     { uri => '/uwsgi', protocol => 'uwsgi' },
     { uri => '/grpc' }]



=== TEST 10: two hops: the inner span is the child of the edge's
--- http
trace internal on;
trace_upstream off;
trace user on;
trace_context internal propagate header=x-op-traceparent;
trace_trusted internal unix: 127.0.0.1;
trace_routing acme;
server {
    listen unix:$TEST_NGINX_DIR/inner1.sock;
    location / { trace_span_name inner; return 200; }
}
server {
    listen unix:$TEST_NGINX_DIR/inner2.sock http2;
    location / { trace_span_name inner; return 200; }
}
--- config
trace_span_name edge;
location /t1 { proxy_pass http://unix:$TEST_NGINX_DIR/inner1.sock; }
location /t2 { grpc_pass grpc://unix:$TEST_NGINX_DIR/inner2.sock; }
--- client eval
sub {
    main::talk(main::request($_, $::VALID, 'tracestate: a=1',
        "x-op-traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-$::P-02",
        'x-op-tracestate: b=2'))
        for '/t1', '/t2';
}
--- span_count: 8
--- check_spans eval
sub {
    my @spans = @_;
    my %child = map { $_->{parent_span_id} => $_ } grep {
        $_->{name} eq 'inner' } @spans;
    my @edges = grep { $_->{name} eq 'edge' } @spans;

    Test::More::is(scalar @edges, 4, 'edges');
    Test::More::is(scalar keys %child, 4, 'inner spans');

    for my $edge (@edges) {
        my $inner = $child{$edge->{span_id}};
        my ($id, $state, $flags) = exists $edge->{headers}{'x-tenant'}
            ? ($::T, 'a=1', 0x301)
            : ('4bf92f3577b34da6a3ce929d0e0e4736', 'b=2', 0x303);

        Test::More::ok($inner, 'an inner span has the edge as its parent');
        Test::More::is($edge->{parent_span_id}, $::P, 'the edge the client');
        Test::More::is($inner->{headers}{'x-tenant'},
                       $edge->{headers}{'x-tenant'}, 'pipeline');
        Test::More::is($inner->{attributes}{'network.protocol.version'},
                       $edge->{attributes}{'url.path'} eq '/t1' ? '1.0' : '2',
                       'protocol');

        for my $span ($edge, $inner) {
            Test::More::is($span->{trace_id}, $id, 'trace-id');
            Test::More::is($span->{trace_state}, $state, 'tracestate');
            Test::More::is($span->{flags}, $flags, 'flags');
        }
    }
}



=== TEST 11: the operator's own proxy_set_header wins
--- config
trace internal on;
location /t {
    proxy_set_header TraceParent mine;
    proxy_set_header tracestate "";
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
--- exchanges eval
[map { { %$_, left => ['TraceParent: mine'] } } main::all_ways()]



=== TEST 12: other headers that are set in a location take ours not away
--- config
trace internal on;
proxy_set_header x-outer 1;
location /t {
    proxy_set_header x-inner 1;
    proxy_set_header Host x;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
--- exchanges eval
[main::all_ways()]



=== TEST 13: proxy_pass_request_headers off sends none, but the variable can
--- config
trace internal on;
location /off {
    proxy_pass_request_headers off;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
location /variable {
    proxy_pass_request_headers off;
    proxy_set_header traceparent $internal_traceparent;
    proxy_set_header tracestate $internal_tracestate;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
--- exchanges eval
[(map { { %$_, left => [] } } main::all_ways(uri => '/off')),
 main::all_ways(uri => '/variable')]



=== TEST 14: a request of HTTP/0.9, which has no headers
--- config
location /t {
    trace internal on;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
--- exchanges eval
[{ bytes => "GET /t\r\n", span => { name => 'GET /t' } }]



=== TEST 15: auth_request
--- config
location /t {
    trace internal on;
    auth_request /auth;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
location /auth {
    internal;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
--- exchanges eval
[main::all_ways(requests => 2, span => { name => 'GET /t' })]



=== TEST 16: auth_request that says no
--- config
location /t {
    trace internal on;
    auth_request /auth;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
location /auth {
    internal;
    proxy_pass http://$TEST_NGINX_UPSTREAM:/?status=403;
}
--- exchanges eval
[main::all_ways(status => 403, span => {
    attributes => { 'http.response.status_code' => 403 } })]



=== TEST 17: mirror
--- config
location /t {
    trace internal on;
    mirror /mirror1;
    mirror /mirror2;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
location /mirror {
    internal;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
--- exchanges eval
[main::all_ways(requests => 3)]



=== TEST 18: ssi
--- config
location /t {
    trace internal on;
    ssi on;
    default_type text/html;
    return 200 '<!--#include virtual="/a" --><!--#include virtual="/b" -->';
}
location ~ ^/[ab] {
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
--- exchanges eval
[main::all_ways(requests => 2, span => { name => 'GET /t' })]



=== TEST 19: ssi in what an upstream sends
--- config
location /t {
    trace internal on;
    ssi on;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
location /a {
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
--- exchanges eval
[main::all_ways(requests => 3, uri =>
    '/t?body=<!--%23include%20virtual="/a"--><!--%23include%20virtual="/a"-->')]



=== TEST 20: addition
--- config
location /t {
    trace internal on;
    add_before_body /before;
    add_after_body /after;
    addition_types *;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
location ~ ^/(before|after) {
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
--- exchanges eval
[main::all_ways(requests => 3)]



=== TEST 21: echo_location
--- config
location /t {
    trace internal on;
    echo_location /a;
    echo_location /b;
}
location ~ ^/[ab] {
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
--- exchanges eval
[main::all_ways(requests => 2, span => { name => 'GET /t' })]



=== TEST 22: Lua, which captures before it is decided whether to record
--- skip_eval: 3: ($ENV{TEST_NGINX_LOAD_MODULES} // '') !~ /_lua_/
--- config
location /t {
    set $yes "";
    rewrite_by_lua_block {
        ngx.location.capture("/a")
        ngx.location.capture("/a", { method = ngx.HTTP_POST, body = "x" })
        ngx.var.yes = "1"
    }
    trace internal on;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
location /a {
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
--- exchanges eval
[main::all_ways(requests => 3)]



=== TEST 23: Lua, in the phases after that
--- skip_eval: 3: ($ENV{TEST_NGINX_LOAD_MODULES} // '') !~ /_lua_/
--- config
location /t {
    trace internal on;
    access_by_lua_block { ngx.location.capture("/a") }
    content_by_lua_block {
        ngx.location.capture_multi({ {"/a"}, {"/a"} })
        ngx.say(ngx.location.capture("/a").body)
    }
}
location /a {
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
--- exchanges eval
[main::all_ways(requests => 4, span => { name => 'GET /t' })]



=== TEST 24: a subrequest changes its own headers, not those of its request
--- shows_internal: upstream
--- config
trace_upstream off;
trace_subrequests off;
location /t {
    trace internal on;
    auth_request /auth;
    mirror /mirror;
    proxy_set_header x-from main;
    proxy_set_header span $internal_span_id;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
location /auth {
    trace_context internal propagate header=x-sub-traceparent;
    proxy_set_header traceparent "";
    proxy_set_header tracestate "";
    proxy_set_header x-from auth;
    proxy_set_header span $internal_span_id;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
location /mirror {
    trace_context internal extract;
    proxy_set_header x-from mirror;
    proxy_set_header span $internal_span_id;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
--- client eval
sub {
    @main::sent = ([$::VALID, 'tracestate: a=1'], [],
                   [map { "x-$_: 1" } 1 .. 50], [$::VALID, $::VALID]);
    main::talk(main::request('/t', @$_)) for @main::sent;
}
--- span_count: 4
--- check_spans eval
sub {
    my @spans = @_;
    my @requests = main::upstream()->requests(12);
    my @sent = map { [grep { /^trace/ } @$_] } @main::sent;

    Test::More::is(scalar @spans, 4, 'spans');

    for my $span (@spans) {
        my @ours = main::headers_of($span);
        my @mine = grep { main::value($_, 'span') eq $span->{span_id} }
            @requests;
        my %by = map { main::value($_, 'x-from') => $_ } @mine;

        Test::More::is_deeply([main::trace_headers($by{main})], \@ours,
            'request');
        Test::More::is_deeply([main::trace_headers($by{mirror})],
            shift @sent, 'mirror, which injects nothing');
        Test::More::is_deeply([main::trace_headers($by{auth})],
            [map { "x-sub-$_" } @ours], 'auth');
    }
}



=== TEST 25: a request that is not recorded: subrequests send what came
--- config
location /t {
    auth_request /auth;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
location /auth {
    trace internal on;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
--- exchanges eval
[map { { send => $_, left => $_, requests => 2, spans => 0 } }
     [], ["Traceparent: \t00-$::T-$::P-01", 'traceState: ,'],
     [$::VALID, $::VALID]]



=== TEST 26: error_page to a location
--- config
trace internal on;
location /t {
    error_page 404 = /fallback;
    return 404;
}
location /fallback {
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
--- exchanges eval
[main::all_ways(span => { name => 'GET /fallback', attributes => {
    'http.route' => '/fallback', 'url.path' => '/t' } })]



=== TEST 27: error_page to a named location, after an upstream
--- config
trace internal on;
location /t {
    proxy_intercept_errors on;
    error_page 503 = @fallback;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
location @fallback {
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
--- exchanges eval
[main::all_ways(uri => '/t?status=503', requests => 2, status => 503,
    span => { name => 'GET @fallback' })]



=== TEST 28: error_page to where the module is off
--- config
location /t {
    trace internal on;
    proxy_intercept_errors on;
    error_page 503 = /fallback;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
location /fallback {
    trace internal off;
    proxy_pass http://$TEST_NGINX_UPSTREAM:/ok?;
}
--- exchanges eval
[main::all_ways(uri => '/t?status=503', requests => 2,
    span => { name => 'GET /fallback' })]



=== TEST 29: error_page from where the module is off: a no is not kept
--- config
location /t {
    proxy_intercept_errors on;
    error_page 503 = /fallback;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
location /fallback {
    trace internal on;
    trace_upstream off;
    proxy_pass http://$TEST_NGINX_UPSTREAM:/ok?;
}
--- client eval
sub {
    main::talk(main::request('/t?status=503', @$_))
        for [], [$::VALID, 'TraceState: a=1'], [$::VALID, $::VALID];
}
--- span_count: 3
--- check_spans eval
sub {
    my @requests = main::upstream()->requests(6);
    my @first = ([], [$::VALID, 'TraceState: a=1'], [$::VALID, $::VALID]);

    Test::More::is(scalar @_, 3, 'spans');

    for my $span (@_) {
        my @ours = main::headers_of($span);

        Test::More::is($span->{name}, 'GET /fallback', 'name');
        Test::More::is_deeply([main::trace_headers(shift @requests)],
            shift @first, 'first request');
        Test::More::is_deeply([main::trace_headers(shift @requests)],
            \@ours, 'second request');
    }
}



=== TEST 30: try_files to a named location
--- config
trace internal on;
location /t {
    try_files /none $uri @fallback;
}
location @fallback {
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
--- exchanges eval
[main::all_ways(span => { name => 'GET @fallback' })]



=== TEST 31: X-Accel-Redirect
--- config
trace internal on;
location /t {
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
location /inner {
    internal;
    proxy_pass http://$TEST_NGINX_UPSTREAM:/ok?;
}
--- exchanges eval
[main::all_ways(uri => '/t?redirect=/inner', requests => 2,
    span => { name => 'GET /inner' })]



=== TEST 32: index
--- user_files
>>> t/page.x
page
--- config
location /t/ {
    trace internal on;
    index page.x;
}
location ~ \.x$ {
    trace internal on;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
--- exchanges eval
[main::all_ways(uri => '/t/', span => { name => 'GET \.x$' })]



=== TEST 33: rewrite
--- shows_internal: response
--- config
trace internal on;
location /t {
    set $seen $internal_span_id;
    rewrite ^ /r last;
}
location /r {
    add_header x-seen $seen;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
--- exchanges eval
[main::all_ways(span => { name => 'GET /r' })]



=== TEST 34: the variables show the same ids all the way
--- shows_internal: upstream
--- config
trace internal on;
trace_upstream off;
location /t {
    set $early $internal_traceparent;
    error_page 404 = @named;
    return 404;
}
location @named {
    set $later $internal_traceparent;
    proxy_set_header x-traceparent $early;
    proxy_set_header y-traceparent $later;
    proxy_set_header z-traceparent $internal_traceparent;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
--- client eval
sub { main::talk(main::request('/t')) for 1, 2 }
--- span_count: 2
--- check_spans eval
sub {
    my @requests = main::upstream()->requests(2);

    for my $span (@_) {
        my $id = main::traceparent_of($span);

        Test::More::is_deeply([sort(main::trace_headers(shift @requests))],
            ["traceparent: $id", "x-traceparent: $id", "y-traceparent: $id",
             "z-traceparent: $id"], 'ids');
    }
}

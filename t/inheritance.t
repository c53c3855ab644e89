# What a location gets of the levels around it: each directive in http, server,
# location, nested location, if and named location.

use strict;
use warnings;
use TraceTest;

no_long_string();
run_tests();

__DATA__

=== TEST 1: trace comes from the nearest level that has it
--- http
trace internal on;
--- config
location /http { return 204; }
location /off {
    trace internal off;
    return 204;

    location /off/same { return 204; }
    location /off/on { trace internal on; return 204; }
    location ~ /regex$ { trace internal on; return 204; }
    location = /off/exact { trace internal on; return 204; }
}
location /variable {
    trace internal $arg_v;

    location /variable/same { return 204; }
    location /variable/off { trace internal off; return 204; }
}
--- client eval
sub {
    get('/http', '/off', '/off/same', '/off/on', '/off/regex', '/off/exact',
        '/variable/same', '/variable/same?v=0', '/variable/same?v=1',
        '/variable/off?v=1');
}
--- spans eval
[map { { attributes => { 'url.path' => $_ } } }
    '/http', '/off/on', '/off/regex', '/off/exact', '/variable/same']



=== TEST 2: trace in the server replaces that of http
--- http
trace internal on;
--- config
trace internal off;
location /t { return 204; }
location /on { trace internal on; return 204; }
--- client eval
sub { get('/t', '/on') }
--- spans eval
[{ attributes => { 'url.path' => '/on' } }]



=== TEST 3: trace in an if
--- config
location /t {
    if ($arg_on) { trace internal on; }
    return 204;
}
location /u {
    trace internal on;
    if ($arg_off) { trace internal off; }
    return 204;
}
--- client eval
sub { get('/t', '/t?on=1', '/u', '/u?off=1') }
--- spans eval
[map { { attributes => { 'url.path' => $_->[0], 'url.query' => $_->[1] } } }
    ['/t', 'on=1'], ['/u', undef]]



=== TEST 4: after an internal redirect a yes stays, and a no is asked again
--- config
set $early "";
location /on { trace internal on; try_files /nosuch @off; }
location @off { trace internal off; return 204; }
location /off { try_files /nosuch @on; }
location /off/early { set $early $internal_trace_id; try_files /nosuch @on; }
location @on { trace internal on; return 204; }
location /twice { try_files /nosuch @again; }
location @again {
    recursive_error_pages on;
    error_page 404 = @on;
    return 404;
}
--- client eval
sub { get('/on', '/off', '/off/early', '/twice') }
--- spans eval
[map { { attributes => { 'url.path' => $_ } } }
    '/on', '/off', '/off/early', '/twice']



=== TEST 5: the same if the other pipeline has said yes
--- http
trace_context internal propagate header=x-op-traceparent;
trace_trusted internal all;
server {
    listen unix:$TEST_NGINX_DIR/upstream.sock;
    return 200 "$http_x_op_traceparent $http_traceparent\n";
}
--- config
location /t {
    trace internal on;
    error_page 502 = @user;
    proxy_pass http://127.0.0.1:1;
}
location @user {
    trace internal off;
    trace user on;
    trace_routing acme;
    proxy_pass http://unix:$TEST_NGINX_DIR/upstream.sock;
}
--- request
GET /t
--- more_headers
X-Op-Traceparent: 00-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-aaaaaaaaaaaaaaaa-01
Traceparent: 00-cccccccccccccccccccccccccccccccc-cccccccccccccccc-01
--- response_body_like eval
qr/^00-a{32}-(?!a{16})[0-9a-f]{16}-01 00-c{32}-(?!c{16})[0-9a-f]{16}-01$/
--- error_log
connect() failed
--- spans eval
[
    { trace_id => 'a' x 32, parent_span_id => 'a' x 16 },
    { trace_id => 'c' x 32, parent_span_id => 'c' x 16,
      headers => { 'x-tenant' => 'acme' } },
]



=== TEST 6: one pipeline says nothing of the other
--- http
trace user on;
trace_routing acme;
trace_context internal propagate header=x-op-traceparent;
--- config
location /both { trace internal on; return 204; }
location /internal { trace internal on; trace user off; return 204; }
location /user { return 204; }
location /none { trace user off; return 204; }
--- client eval
sub { get('/both', '/internal', '/user', '/none') }
--- spans eval
[
    { name => 'GET /both', headers => { 'x-tenant' => undef } },
    { name => 'GET /internal', headers => { 'x-tenant' => undef } },
    { name => 'GET /both', headers => { 'x-tenant' => 'acme' } },
    { name => 'GET /user', headers => { 'x-tenant' => 'acme' } },
]



=== TEST 7: a mode of trace_context without a header keeps the outer header
--- http
trace internal on;
trace_context internal propagate header=X-Op-TraceParent;
trace_trusted internal all;
--- config
location /http { return 200 "$internal_parent_id\n"; }
location /extract {
    trace_context internal extract;
    return 200 "$internal_parent_id\n";
}
location /ignore {
    trace_context internal ignore;
    return 200 "$internal_parent_id\n";

    location /ignore/propagate {
        trace_context internal propagate;
        return 200 "$internal_parent_id\n";
    }
}
location /other {
    trace_context internal propagate header=x-other-traceparent;
    return 200 "$internal_parent_id\n";

    location /other/inject {
        trace_context internal inject;
        return 200 "$internal_parent_id\n";

        location /other/inject/extract {
            trace_context internal extract;
            return 200 "$internal_parent_id\n";
        }
    }
}
location /standard {
    trace_context internal propagate header=traceparent;
    return 200 "$internal_parent_id\n";
}
--- request eval
[map { "GET $_" } qw(/http /extract /ignore /ignore/propagate /other
    /other/inject /other/inject/extract /standard)]
--- more_headers
X-Op-Traceparent: 00-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-aaaaaaaaaaaaaaaa-01
X-Other-Traceparent: 00-bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb-bbbbbbbbbbbbbbbb-01
Traceparent: 00-cccccccccccccccccccccccccccccccc-cccccccccccccccc-01
--- error_code eval
[(200) x 8]
--- response_body eval
[map { "$_\n" } 'a' x 16, 'a' x 16, '', 'a' x 16, 'b' x 16, '', 'b' x 16,
    'c' x 16]
--- spans eval
[map { { parent_span_id => $_ } } 'a' x 16, 'a' x 16, '', 'a' x 16, 'b' x 16,
    '', 'b' x 16, 'c' x 16]



=== TEST 8: trace_trusted comes from the nearest level; by itself it follows the header's name
--- http
trace internal on;
--- config
location /standard { return 200 "$internal_parent_id\n"; }
location /named {
    trace_context internal propagate header=x-op-traceparent;
    return 200 "$internal_parent_id\n";

    location /named/believed {
        trace_trusted internal 127.0.0.0/8 ::1;
        return 200 "$internal_parent_id\n";

        location /named/believed/same { return 200 "$internal_parent_id\n"; }
        location /named/believed/unix {
            trace_trusted internal unix: 192.0.2.1;
            return 200 "$internal_parent_id\n";
        }
    }

    location /named/standard {
        trace_context internal propagate header=traceparent;
        return 200 "$internal_parent_id\n";
    }
}
location /nobody {
    trace_trusted internal 192.0.2.1;
    return 200 "$internal_parent_id\n";

    location /nobody/all {
        trace_trusted internal all;
        return 200 "$internal_parent_id\n";
    }
}
--- request eval
[map { "GET $_" } qw(/standard /named /named/believed /named/believed/same
    /named/believed/unix /named/standard /nobody /nobody/all)]
--- more_headers
X-Op-Traceparent: 00-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-aaaaaaaaaaaaaaaa-01
Traceparent: 00-cccccccccccccccccccccccccccccccc-cccccccccccccccc-01
--- error_code eval
[(200) x 8]
--- response_body eval
[map { "$_\n" } 'c' x 16, '', 'a' x 16, 'a' x 16, '', 'c' x 16, '', 'c' x 16]
--- spans eval
[map { { parent_span_id => $_ } } 'c' x 16, '', 'a' x 16, 'a' x 16, '',
    'c' x 16, '', 'c' x 16]



=== TEST 9: trace_routing comes from the nearest level; an empty one drops the span
--- http
trace user on;
trace_routing http;
--- config
location /http { return 204; }
location /location {
    trace_routing $arg_tenant;
    return 204;

    location /location/nested { return 204; }
    location /location/constant { trace_routing "a constant"; return 204; }
    location /location/empty { trace_routing ""; return 204; }
}
location /if {
    if ($arg_tenant) { trace_routing if; }
    return 204;
}
location /named { try_files /nosuch @named; }
location @named { trace_routing named; return 204; }
--- client eval
sub {
    get('/http', '/location', '/location?tenant=a',
        '/location/nested?tenant=b', '/location/constant', '/location/empty',
        '/if', '/if?tenant=c', '/named');
}
--- check_spans eval
sub {
    is_deeply({ map { $_->{attributes}{'url.path'} . '?'
                      . ($_->{attributes}{'url.query'} || '')
                      => $_->{headers}{'x-tenant'} } @_ },
        { '/http?' => 'http', '/location?tenant=a' => 'a',
          '/location/nested?tenant=b' => 'b',
          '/location/constant?' => 'a constant', '/if?' => 'http',
          '/if?tenant=c' => 'if', '/named?' => 'named' }, 'routing');
}
--- span_count: 7



=== TEST 10: trace_span_name comes from the nearest level, for each pipeline alone
--- http
trace internal on;
trace user on;
trace_routing acme;
trace_context internal propagate header=x-op-traceparent;
trace_span_name http;
--- config
location /a { return 204; }
location /b {
    trace_span_name internal "b $request_method";
    return 204;

    location /b/c { trace_span_name user c; return 204; }
    location /b/d { trace_span_name d; return 204; }
    location /b/e { trace_span_name internal ""; return 204; }
    location /b/f { trace_span_name both $arg_none; return 204; }
}
location /if {
    if ($arg_a) { trace_span_name if; }
    return 204;
}
location /named { try_files /nosuch @named; }
location @named { trace_span_name named; return 204; }
--- client eval
sub {
    get('/a', '/b', '/b/c', '/b/d', '/b/e', '/b/f', '/if', '/if?a=1',
        '/named');
}
--- spans eval
[map { { name => $_ } }
    'http', 'b GET', 'b GET', 'd', 'GET /b/e', 'GET /b/f', 'http', 'if',
    'named',
    'http', 'http', 'c', 'd', 'http', 'GET /b/f', 'http', 'if', 'named']



=== TEST 11: trace_attribute adds to those of the outer levels, and replaces its name
--- http
trace internal on;
trace_attribute internal level http;
trace_attribute internal http 1;
--- config
trace_attribute internal level server;
trace_attribute internal server $request_method;
location /a { return 204; }
location /b {
    trace_attribute internal level location;
    trace_attribute internal b 1;
    return 204;

    location /b/c {
        trace_attribute internal level $uri;
        trace_attribute internal c 1;
        trace_attribute internal http "";
        return 204;
    }
    location /b/d { trace_attribute internal level ""; return 204; }
    location /b/e { trace_attribute user level user; return 204; }
}
location /if {
    if ($arg_a) { trace_attribute internal level if; }
    return 204;
}
location /named { trace_attribute internal first 1; try_files /nosuch @named; }
location @named { trace_attribute internal level named; return 204; }
--- client eval
sub { get('/a', '/b', '/b/c', '/b/d', '/b/e', '/if?a=1', '/if', '/named') }
--- spans eval
[map {
    my ($level, $http, $b, $c) = @$_;
    { attributes => { level => $level, http => $http, server => 'GET', b => $b,
                      c => $c, first => undef } }
} ['server', 1], ['location', 1, 1], ['/b/c', undef, 1, 1], [undef, 1, 1],
  ['location', 1, 1], ['if', 1], ['server', 1], ['named', 1]]



=== TEST 12: what is removed of the default attributes stays so in inner levels
--- http
trace internal on;
trace_attribute internal url.path "";
trace_attribute internal url.scheme other;
--- config
location /a { return 204; }
location /b {
    trace_attribute internal url.path changed;
    return 204;
}
location /c {
    trace_attribute internal url.scheme "";
    return 204;
}
--- client eval
sub { get('/a', '/b', '/c') }
--- spans eval
[map { { attributes => { 'url.path' => $_->[0], 'url.scheme' => $_->[1] } } }
    [undef, 'other'], ['changed', 'other'], [undef, undef]]

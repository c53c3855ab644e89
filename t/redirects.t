# A request that nginx redirects internally is one request, and one span: it
# says where it went, and why.

use strict;
use warnings;
use Wire;

our $DIR = $ENV{TEST_NGINX_DIR};

# As in subrequests.t: a server that takes its time, and both pipelines.

our $SERVERS = <<'_EOC_';
trace internal on;
trace user on;
trace_context internal propagate header=x-op-traceparent;
trace_routing acme;
server {
    listen unix:$TEST_NGINX_DIR/slow.sock;
    trace internal off;
    trace user off;
    location / { echo_sleep 0.5; echo slow; }
}
_EOC_

add_block_preprocessor(sub {
    my $block = shift;

    $block->set_value('http', $SERVERS . ($block->http || ''));
});

no_long_string();
run_tests();

__DATA__

=== TEST 1: error_page to a URI; nginx forgets the status that "=" replaces
--- config
location /kept { error_page 404 /page; return 404; }
location /changed { error_page 500 503 =200 /page; return 503; }
location /taken { error_page 404 = /page; return 404; }
location /page { return 202 page; }
--- client eval
sub {
    like(get('/kept'), qr/ 404 .*page/s, 'status 404');
    like(get('/changed'), qr/ 200 .*page/s, 'status 200');
    like(get('/taken'), qr/ 202 .*page/s, 'status 202');
}
--- tree
internal:
SERVER GET /page 404 url.path=/kept
  * redirect http.route=/page url.path=/page http.response.status_code=404
SERVER GET /page 200 url.path=/changed
  * redirect http.route=/page url.path=/page http.response.status_code=-
SERVER GET /page 202 url.path=/taken
  * redirect http.route=/page url.path=/page http.response.status_code=-
user:
SERVER GET /page 404 url.path=/kept
  * redirect http.route=/page url.path=- http.response.status_code=404
SERVER GET /page 200 url.path=/changed
  * redirect http.route=/page url.path=- http.response.status_code=-
SERVER GET /page 202 url.path=/taken
  * redirect http.route=/page url.path=- http.response.status_code=-



=== TEST 2: error_page to locations that tenants are not told of
--- config
location /named { error_page 404 @named; return 404; }
location /internal { error_page 404 /hidden; return 404; }
location @named { return 201 named; }
location /hidden { internal; return 200 hidden; }
--- client eval
sub {
    like(get('/named'), qr/ 404 .*named/s, 'named');
    like(get('/internal'), qr/ 404 .*hidden/s, 'hidden');
}
--- tree
internal:
SERVER GET @named 404
  * redirect http.route=@named url.path=/named http.response.status_code=404
SERVER GET /hidden 404
  * redirect http.route=/hidden url.path=/hidden http.response.status_code=404
user:
SERVER GET 404
  * redirect http.route=- url.path=- http.response.status_code=404
SERVER GET 404
  * redirect http.route=- url.path=- http.response.status_code=404



=== TEST 3: error_page after error_page
--- config
recursive_error_pages on;
location /t { error_page 404 /one; return 404; }
location /one { error_page 502 @two; proxy_pass http://127.0.0.1:1; }
location @two { error_page 503 /three; return 503; }
location /three { return 200 three; }
--- request
GET /t
--- error_code: 503
--- error_log
connect() failed
--- tree
internal:
SERVER GET /three 503 error=503
  * redirect http.route=/one url.path=/one http.response.status_code=404
  * redirect http.route=@two url.path=/one http.response.status_code=502
  * redirect http.route=/three url.path=/three http.response.status_code=503
  CLIENT GET error=connect
user:
SERVER GET /three 503 error=503
  * redirect http.route=/one http.response.status_code=404
  * redirect http.route=- http.response.status_code=502
  * redirect http.route=/three http.response.status_code=503
  CLIENT GET error=connect



=== TEST 4: error_page that is not followed again leaves no event
--- config
location /t { error_page 404 /page; return 404; }
location /page { error_page 403 = /again; return 403; }
location /again { return 200 again; }
--- request
GET /t
--- error_code: 403
--- tree
both:
SERVER GET /page 403
  * redirect http.route=/page http.response.status_code=404



=== TEST 5: from an upstream to an upstream
--- config
location /t {
    proxy_intercept_errors on;
    error_page 404 503 /next;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
location /next { proxy_pass http://$TEST_NGINX_UPSTREAM:/next?; }
location /dead { error_page 502 @next; proxy_pass http://127.0.0.1:1; }
location @next { proxy_pass http://$TEST_NGINX_UPSTREAM; }
--- client eval
sub {
    like(get('/t?status=503'), qr/ 503 /, 'status 503');
    like(get('/dead'), qr/ 502 /, 'status 502');
}
--- error_log
connect() failed
--- tree
internal:
SERVER GET /next 503 error=503
  * redirect http.route=/next url.path=/next http.response.status_code=503
  CLIENT GET 503 error=503
  CLIENT GET 200
SERVER GET @next 502 error=502
  * redirect http.route=@next url.path=/dead http.response.status_code=502
  CLIENT GET error=connect
  CLIENT GET 200
user:
SERVER GET /next 503 error=503
  * redirect http.route=/next http.response.status_code=503
  CLIENT GET 503 error=503
  CLIENT GET 200
SERVER GET 502 error=502
  * redirect http.route=- http.response.status_code=502
  CLIENT GET error=connect
  CLIENT GET 200



=== TEST 6: try_files: a file is no redirect, the last argument is
--- config
location /file { try_files /t.txt /page; }
location /uri { try_files /nosuch /page?a=b; }
location /named { try_files /nosuch $uri @named; }
location /code { try_files /nosuch =410; }
location /page { return 200 "page $arg_a"; }
location @named { return 201 named; }
--- user_files
>>> t.txt
text
--- client eval
sub {
    like(get('/file'), qr/ 200 .*text/s, 'file');
    like(get('/uri'), qr/ 200 .*page b/s, 'URI');
    like(get('/named'), qr/ 201 .*named/s, 'named');
    like(get('/code'), qr/ 410 /, 'code');
}
--- tree
internal:
SERVER GET /file 200 events=-
SERVER GET /page 200
  * redirect http.route=/page url.path=/page http.response.status_code=-
SERVER GET @named 201
  * redirect http.route=@named url.path=/named http.response.status_code=-
SERVER GET /code 410 events=-
user:
SERVER GET /file 200 events=-
SERVER GET /page 200
  * redirect http.route=/page url.path=- http.response.status_code=-
SERVER GET 201
  * redirect http.route=- url.path=- http.response.status_code=-
SERVER GET /code 410 events=-



=== TEST 7: X-Accel-Redirect to a file, to an upstream and to a named location
--- config
location /t { proxy_pass http://$TEST_NGINX_UPSTREAM; }
location /files/ { internal; alias $TEST_NGINX_SERVROOT/html/; }
location /up { internal; proxy_pass http://$TEST_NGINX_UPSTREAM:/up?; }
location @named { proxy_pass http://$TEST_NGINX_UPSTREAM:; }
--- user_files
>>> t.txt
text
--- client eval
sub {
    like(get('/t?redirect=/files/t.txt'), qr/ 200 .*text/s, 'file');
    like(get('/t?redirect=/up'), qr/ 200 .*GET \/up/s, 'upstream');
    like(get('/t?redirect=/nosuch'), qr/ 404 /, 'nothing');
}
--- error_log
open() "
--- tree
internal:
SERVER GET /files/ 200
  * redirect http.route=/files/ url.path=/files/t.txt
  CLIENT GET 200
SERVER GET /up 200
  * redirect http.route=/up url.path=/up http.response.status_code=-
  CLIENT GET 200
  CLIENT GET 200
SERVER GET / 404
  * redirect http.route=/ url.path=/nosuch http.response.status_code=-
  CLIENT GET 200
user:
SERVER GET 200
  * redirect http.route=- url.path=-
  CLIENT GET 200
SERVER GET 200
  * redirect http.route=- url.path=-
  CLIENT GET 200
  CLIENT GET 200
SERVER GET / 404
  * redirect http.route=/ url.path=-
  CLIENT GET 200



=== TEST 8: index, and the slash at the end that nginx tells the client of
--- config
location /dir/ { index nosuch.html t.html; }
location = /dir/t.html { return 202; }
location /other/ { index t.html; }
location /slash/ { proxy_pass http://127.0.0.1:1; }
--- user_files
>>> dir/t.html
index
>>> other/t.html
other
>>> static/t.html
static
--- client eval
sub {
    like(get('/dir/'), qr/ 202 /, 'status 202');
    like(get('/other/'), qr/ 200 .*other/s, 'status 200');
    like(get($_), qr/ 301 .*Location: \S+$_\/\r/s, 'status 301')
        for '/static', '/slash';
}
--- tree
both:
SERVER GET /dir/t.html 202
  * redirect http.route=/dir/t.html http.response.status_code=-
SERVER GET /other/ 200
  * redirect http.route=/other/ http.response.status_code=-
SERVER GET / 301 events=-
SERVER GET /slash/ 301 events=-



=== TEST 9: rewrite ... last, and what is not
--- config
location /one { rewrite ^ /two last; }
location /two { rewrite ^ /three last; }
location /three { rewrite ^ /page last; }
location /break { rewrite ^ /t.txt break; }
location /away { rewrite ^ /there redirect; }
location /page { return 200 page; }
--- user_files
>>> t.txt
text
--- client eval
sub {
    like(get('/one'), qr/ 200 .*page/s, 'last');
    like(get('/break'), qr/ 200 .*text/s, 'break');
    like(get('/away'), qr/ 302 /s, 'redirect');
}
--- tree
internal:
SERVER GET /page 200 url.path=/one
  * redirect http.route=/two url.path=/two http.response.status_code=-
  * redirect http.route=/three url.path=/three http.response.status_code=-
  * redirect http.route=/page url.path=/page http.response.status_code=-
SERVER GET /break 200 events=-
SERVER GET /away 302 events=-
user:
SERVER GET /page 200 url.path=/one
  * redirect http.route=/two url.path=-
  * redirect http.route=/three url.path=-
  * redirect http.route=/page url.path=-
SERVER GET /break 200 events=-
SERVER GET /away 302 events=-



=== TEST 10: a rewrite of the server comes before any location
--- config
rewrite ^/old(.*) /new$1 last;
location /new { return 200 new; }
--- request
GET /old/page
--- response_body: new
--- tree
both:
SERVER GET /new 200 url.path=/old/page events=-



=== TEST 11: cycles end as nginx ends them
--- config
location /rewrite { rewrite ^ /rewrite last; }
location /try { try_files /nosuch /try; }
location /page { error_page 404 /page; recursive_error_pages on; return 404; }
--- client eval
sub {
    like(get($_), qr/ 500 /, 'status 500') for '/rewrite', '/try', '/page';
}
--- error_log
rewrite or internal redirection cycle
--- span_count: 6
--- check_spans eval
sub {
    is(scalar @_, 6, 'spans');

    for my $span (@_) {
        my @events = @{$span->{events}};

        is($span->{attributes}{'error.type'}, '500', $span->{name});
        is(scalar @events, 10, 'events');
        is($_->{attributes}{'http.route'},
           $span->{attributes}{'http.route'}, $_->{name}) for @events;
    }
}



=== TEST 12: post_action comes after the end, and changes nothing of the request
--- config
location /t {
    post_action /after;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
location /u {
    post_action @after;
    try_files /t.txt =404;
}
location /after { proxy_pass http://unix:$TEST_NGINX_DIR/slow.sock:/; }
location @after { proxy_pass http://unix:$TEST_NGINX_DIR/slow.sock; }
--- user_files
>>> t.txt
text
--- client eval
sub {
    like(get('/t'), qr/ 200 .*GET \/t/s, 'upstream');
    like(get('/u'), qr/ 200 .*text/s, 'file');
}
--- tree
internal:
SERVER GET /t 200
  * redirect http.route=/after url.path=/after http.response.status_code=-
  CLIENT GET 200
  CLIENT GET 200 outlives sent=0
SERVER GET /u 200
  * redirect http.route=@after url.path=/t.txt http.response.status_code=-
  CLIENT GET 200 outlives sent=0
user:
SERVER GET /t 200
  * redirect http.route=/after url.path=- http.response.status_code=-
  CLIENT GET 200
  CLIENT GET 200 outlives sent=0
SERVER GET /u 200
  * redirect http.route=- url.path=- http.response.status_code=-
  CLIENT GET 200 outlives sent=0
--- check_spans eval
sub {
    cmp_ok($_->{end_time_unix_nano} - $_->{start_time_unix_nano}, '<', 0.3e9,
        'over when the response is') for grep { $_->{kind} eq 'SERVER' } @_;
}



=== TEST 13: Lua
--- skip_eval: 3: ($ENV{TEST_NGINX_LOAD_MODULES} // '') !~ /_lua_/
--- config
location /t { content_by_lua_block { ngx.exec("/page", "a=b") } }
location /named { access_by_lua_block { ngx.exec("@named") } }
location /uri { rewrite_by_lua_block { ngx.req.set_uri("/page", true) } }
location /kept {
    rewrite_by_lua_block { ngx.req.set_uri("/other") }
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
location /page { return 200 "page $arg_a"; }
location @named { return 201 named; }
--- client eval
sub {
    like(get('/t'), qr/ 200 .*page b/s, 'exec');
    like(get('/named'), qr/ 201 .*named/s, 'exec, named');
    like(get('/uri'), qr/ 200 .*page/s, 'set_uri that jumps');
    like(get('/kept'), qr/ 200 .*GET \/other/s, 'set_uri that does not');
}
--- tree
internal:
SERVER GET /page 200
  * redirect http.route=/page url.path=/page http.response.status_code=-
SERVER GET @named 201
  * redirect http.route=@named url.path=/named http.response.status_code=-
SERVER GET /page 200
  * redirect http.route=/page url.path=/page http.response.status_code=-
SERVER GET /kept 200 events=-
  CLIENT GET 200
user:
SERVER GET /page 200
  * redirect http.route=/page url.path=-
SERVER GET 201
  * redirect http.route=- url.path=-
SERVER GET /page 200
  * redirect http.route=/page url.path=-
SERVER GET /kept 200 events=-
  CLIENT GET 200



=== TEST 14: a no is asked again, a yes is kept
--- config
location /off {
    trace internal off;
    trace user off;
    error_page 404 = /on;
    return 404;
}
location /up {
    trace internal off;
    trace user off;
    error_page 503 = /on;
    proxy_intercept_errors on;
    proxy_pass http://$TEST_NGINX_UPSTREAM:/?status=503&a=;
}
location /on { proxy_pass http://$TEST_NGINX_UPSTREAM:/on?; }
location /yes { try_files /nosuch @off; }
location @off {
    trace internal off;
    trace user off;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
location /internal { trace user off; try_files /nosuch /on; }
--- client eval
sub { like(get($_), qr/ 200 /, $_) for qw(/off /up /yes /internal) }
--- tree
internal:
SERVER GET /on 200 url.path=/off
  CLIENT GET 200
SERVER GET /on 200 url.path=/up
  CLIENT GET 200
SERVER GET @off 200
  * redirect http.route=@off url.path=/yes
  CLIENT GET 200
SERVER GET /on 200 url.path=/internal
  * redirect http.route=/on url.path=/on
  CLIENT GET 200
user:
SERVER GET /on 200 url.path=/off
  CLIENT GET 200
SERVER GET /on 200 url.path=/up
  CLIENT GET 200
SERVER GET 200
  * redirect http.route=-
  CLIENT GET 200
SERVER GET /on 200 url.path=/internal
  CLIENT GET 200



=== TEST 15: each location says whether its attempts have spans
--- config
proxy_intercept_errors on;
location /off {
    trace_upstream off;
    error_page 503 = @on;
    proxy_pass http://$TEST_NGINX_UPSTREAM:/?status=503&a=;
}
location @on { proxy_pass http://$TEST_NGINX_UPSTREAM; }
location /user {
    trace_upstream user;
    error_page 503 = @off;
    proxy_pass http://$TEST_NGINX_UPSTREAM:/?status=503&a=;
}
location @off { trace_upstream off; proxy_pass http://$TEST_NGINX_UPSTREAM; }
location /internal {
    trace_upstream internal;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
--- client eval
sub { like(get($_), qr/ 200 /, $_) for qw(/off /user /internal) }
--- tree
internal:
SERVER GET @on 200 sent=1
  CLIENT GET 200
SERVER GET @off 200 sent=2
SERVER GET /internal 200
  CLIENT GET 200
user:
SERVER GET 200 sent=1
  CLIENT GET 200
SERVER GET 200 sent=1
  CLIENT GET 503 error=503
SERVER GET /internal 200 sent=1



=== TEST 16: the ids stay what they were
--- shows_internal: response
--- config
proxy_intercept_errors on;
location /t {
    set $early "$internal_span_id $user_span_id";
    error_page 503 /next;
    proxy_pass http://$TEST_NGINX_UPSTREAM:/?status=503&a=;
}
location /next { error_page 404 @last; return 404; }
location @last {
    add_header x-early $early always;
    add_header x-late "$internal_span_id $user_span_id" always;
    add_header x-trace "$internal_trace_id $user_trace_id" always;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
    recursive_error_pages on;
}
recursive_error_pages on;
--- client eval
sub { $::answer = get('/t') }
--- tree
internal:
SERVER GET @last 404
  * redirect http.route=/next http.response.status_code=503
  * redirect http.route=@last http.response.status_code=404
  CLIENT GET 503 error=503
  CLIENT GET 200
user:
SERVER GET 404
  * redirect http.route=/next http.response.status_code=503
  * redirect http.route=- http.response.status_code=404
  CLIENT GET 503 error=503
  CLIENT GET 200
--- check_spans eval
sub {
    my ($internal, $user) = grep { $_->{kind} eq 'SERVER' } @_;
    my %header = $::answer =~ /^x-(\w+): (.*?)\r$/mg;

    is_deeply(\%header, {
        (map { $_ => "$internal->{span_id} $user->{span_id}" }
            qw(early late)),
        trace => "$internal->{trace_id} $user->{trace_id}" }, 'ids');
}



=== TEST 17: redirected many times, with subrequests on the way
--- config
location /t { auth_request /auth; try_files /nosuch /next; }
location /next { auth_request /auth; error_page 403 @last; deny all; }
location @last { mirror /auth; proxy_pass http://$TEST_NGINX_UPSTREAM; }
location /auth { return 204; }
--- request
GET /t
--- error_code: 403
--- error_log
access forbidden by rule
--- tree
internal:
SERVER GET @last 403
  * redirect http.route=/next url.path=/next http.response.status_code=-
  * redirect http.route=@last url.path=/next http.response.status_code=403
  INTERNAL subrequest /auth 204
  CLIENT GET 200
  INTERNAL subrequest /auth 204
user:
SERVER GET 403
  * redirect http.route=/next
  * redirect http.route=- http.response.status_code=403
  INTERNAL subrequest /auth 204
  CLIENT GET 200
  INTERNAL subrequest /auth 204



=== TEST 18: a request that is refused before a location is found
--- config
error_page 400 /bad;
error_page 414 /long;
location /bad { return 200 bad; }
location /long { return 200 long; }
client_header_buffer_size 1k;
large_client_header_buffers 2 1k;
--- client eval
sub {
    like(talk("GET /t HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
         qr/ 400 .*bad/s, 'status 400');
    like(talk('GET /' . 'x' x 3000 . " HTTP/1.1\r\nHost: a\r\n\r\n"),
         qr/ 414 .*long/s, 'status 414');
}
--- error_log
client sent
--- tree
internal:
SERVER GET /bad 400
  * redirect http.route=/bad url.path=/bad http.response.status_code=400
SERVER GET /long 414
  * redirect http.route=/long url.path=/long http.response.status_code=414
user:
SERVER GET /bad 400
  * redirect http.route=/bad http.response.status_code=400
SERVER GET /long 414
  * redirect http.route=/long http.response.status_code=414

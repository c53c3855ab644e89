# A span for each subrequest, below what has caused it: those of nginx's own
# modules, of echo and of Lua; with what they ask of upstreams below them.

use strict;
use warnings;
use Wire;

our $DIR = $ENV{TEST_NGINX_DIR};

# nanoseconds from the start of a span to its end

sub main::lasts { $_[0]{end_time_unix_nano} - $_[0]{start_time_unix_nano} }

# the spans of a kind and a pipeline

sub main::of {
    my ($kind, $pipeline, @spans) = @_;

    return grep {
        $_->{kind} eq $kind
            && ($pipeline eq 'user') == exists $_->{headers}{'x-tenant'}
    } @spans;
}

# the body of a response, without chunks

sub main::body {
    my ($path, @headers) = @_;

    return (split /\r\n\r\n/, main::talk(join "\r\n", "GET $path HTTP/1.0",
        'Host: localhost', @headers, '', ''), 2)[1];
}

# Behind the nginx that is tested, an nginx that records nothing, for what takes
# its time, and one that continues the trace of the operator, for what has to
# be told apart by its ids.

our $SERVERS = <<'_EOC_';
trace internal on;
trace user on;
trace_context internal propagate header=x-op-traceparent;
trace_trusted internal unix:;
trace_routing acme;
server {
    listen unix:$TEST_NGINX_DIR/slow.sock;
    trace internal off;
    trace user off;
    location / { echo_sleep 0.5; echo slow; }
    location /never { echo_sleep 10; }
}
server {
    listen unix:$TEST_NGINX_DIR/traced.sock;
    trace user off;
    root $TEST_NGINX_SERVROOT/html;
}
_EOC_

add_block_preprocessor(sub {
    my $block = shift;

    $block->set_value('http', $SERVERS . ($block->http || ''))
        if !defined $block->http_config;
});

no_long_string();
run_tests();

__DATA__

=== TEST 1: auth_request that allows; a tenant is not told where it goes
--- config
location /t {
    auth_request /auth;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
location = /auth {
    internal;
    proxy_pass http://$TEST_NGINX_UPSTREAM:/?status=204;
}
--- request
GET /t
--- tree
internal:
SERVER GET /t 200
  INTERNAL subrequest /auth 204 http.route=/auth url.path=/auth
    CLIENT GET 204
  CLIENT GET 200
user:
SERVER GET /t 200
  INTERNAL subrequest 204 http.route=- url.path=-
    CLIENT GET 204
  CLIENT GET 200



=== TEST 2: auth_request that says 401 and 403
--- config
location /401 { auth_request /auth401; proxy_pass http://127.0.0.1:1; }
location /403 { auth_request /auth403; proxy_pass http://127.0.0.1:1; }
location /none { auth_request /no; proxy_pass http://127.0.0.1:1; }
location /auth401 { proxy_pass http://$TEST_NGINX_UPSTREAM:/?status=401; }
location /auth403 { proxy_pass http://$TEST_NGINX_UPSTREAM:/?status=403; }
location /no { return 403; }
--- client eval
sub {
    like(get('/401'), qr/ 401 /, 'status 401');
    like(get('/403'), qr/ 403 /, 'status 403');
    like(get('/none'), qr/ 403 /, 'status 403');
}
--- tree
both:
SERVER GET /401 401
  INTERNAL subrequest /auth401 401 status=UNSET
    CLIENT GET 401 error=401
SERVER GET /403 403
  INTERNAL subrequest /auth403 403 status=UNSET
    CLIENT GET 403 error=403
SERVER GET /none 403
  INTERNAL subrequest /no 403



=== TEST 3: auth_request that fails
--- config
location /t {
    auth_request /auth;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
location /auth { proxy_pass http://$TEST_NGINX_UPSTREAM:/?status=500; }
--- request
GET /t
--- error_code: 500
--- error_log
auth request unexpected status: 500
--- tree
both:
SERVER GET /t 500 error=500
  INTERNAL subrequest /auth 500 error=500
    CLIENT GET 500 error=500



=== TEST 4: auth_request that is tried a second time, each time with its own id
--- http
upstream two {
    server 127.0.0.1:1;
    server $TEST_NGINX_UPSTREAM backup;
}
upstream three {
    server $TEST_NGINX_UPSTREAM max_fails=0;
    server $TEST_NGINX_UPSTREAM max_fails=0;
    server $TEST_NGINX_UPSTREAM max_fails=0;
}
--- config
location /t {
    auth_request /auth;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
location /auth { proxy_pass http://two; }
location /u {
    auth_request /no;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
location /no {
    proxy_next_upstream http_503;
    proxy_pass http://three/?status=503;
}
--- client eval
sub {
    like(get('/t'), qr/ 200 /, 'status 200');
    like(get('/u'), qr/ 500 /, 'status 500');
}
--- error_log
connect() failed
auth request unexpected status: 503
--- tree
both:
SERVER GET /t 200
  INTERNAL subrequest /auth 200
    CLIENT GET error=connect
    CLIENT GET 200 resend=1
  CLIENT GET 200
SERVER GET /u 500 error=500
  INTERNAL subrequest /no 503 error=503
    CLIENT GET 503 error=503
    CLIENT GET 503 error=503 resend=1
    CLIENT GET 503 error=503 resend=2



=== TEST 5: mirror
--- config
location /one {
    mirror /mirror;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
location /two {
    mirror /mirror;
    mirror /static;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
location = /mirror { internal; proxy_pass http://$TEST_NGINX_UPSTREAM; }
location = /static { return 204; }
--- client eval
sub { like(get($_), qr/ 200 /, 'status 200') for '/one', '/two' }
--- tree
internal:
SERVER GET /one 200
  CLIENT GET 200
  INTERNAL subrequest /mirror 200 may-outlive
    CLIENT GET 200
SERVER GET /two 200
  CLIENT GET 200
  INTERNAL subrequest /mirror 200 may-outlive
    CLIENT GET 200
  INTERNAL subrequest /static 204
user:
SERVER GET /one 200
  CLIENT GET 200
  INTERNAL subrequest 200 may-outlive
    CLIENT GET 200
SERVER GET /two 200
  CLIENT GET 200
  INTERNAL subrequest 200 may-outlive
    CLIENT GET 200
  INTERNAL subrequest /static 204



=== TEST 6: a slow mirror outlives the request, and makes it no longer
--- config
location /t {
    mirror /mirror;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
location /mirror { proxy_pass http://unix:$TEST_NGINX_DIR/slow.sock:/; }
location /u {
    mirror /never;
    try_files /t.txt =404;
}
location /never {
    proxy_read_timeout 300ms;
    proxy_pass http://unix:$TEST_NGINX_DIR/slow.sock;
}
--- user_files
>>> t.txt
text
--- client eval
sub { like(get($_), qr/ 200 /, 'status 200') for '/t', '/u' }
--- error_log
upstream timed out
--- tree
both:
SERVER GET /t 200
  CLIENT GET 200
  INTERNAL subrequest /mirror 200 outlives
    CLIENT GET 200 sent=0
SERVER GET /u 200
  INTERNAL subrequest /never 504 error=504 outlives
    CLIENT GET error=timeout sent=0
--- check_spans eval
sub {
    cmp_ok(::lasts($_), '<', 0.25e9, "$_->{name} is over soon")
        for grep { $_->{kind} eq 'SERVER' } @_;
    cmp_ok(::lasts($_), '>', 0.29e9, "$_->{name} is not")
        for grep { $_->{kind} eq 'INTERNAL' } @_;
}



=== TEST 7: after a slow mirror the connection goes on
--- config
location /t {
    mirror /mirror;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
location /mirror { proxy_pass http://unix:$TEST_NGINX_DIR/slow.sock:/; }
location /next { return 204; }
--- client eval
sub { is(scalar(() = get('/t', '/next') =~ m{^HTTP/1.1 }mg), 2, 'answers') }
--- tree
both:
SERVER GET /t 200
  CLIENT GET 200
  INTERNAL subrequest /mirror 200 outlives
    CLIENT GET 200 sent=0
SERVER GET /next 204



=== TEST 8: mirror of a body
--- config
location /t {
    mirror /mirror;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
location /mirror { proxy_pass http://$TEST_NGINX_UPSTREAM; }
--- request eval
"POST /t\n" . 'x' x 100_000
--- error_log
is buffered to a temporary file
--- tree
both:
SERVER POST /t 200 http.request.body.size=100000
  CLIENT POST 200
  INTERNAL subrequest /mirror 200 may-outlive
    CLIENT POST 200



=== TEST 9: SSI: side by side, nested, of upstreams, and one that waits
--- config
ssi on;
location /t { proxy_pass http://$TEST_NGINX_UPSTREAM; }
location /page { default_type text/html; try_files /page.html =404; }
location /plain { ssi off; return 200 plain; }
location ~ ^/up[12]$ { proxy_pass http://$TEST_NGINX_UPSTREAM; }
location /none { return 404; }
--- user_files
>>> page.html
<!--#include virtual="/up1?body=one" wait="yes" -->,
<!--#include virtual="/none" -->
--- client eval
sub {
    my $page = CORE::join '', map { "<!--%23include%20virtual=\"$_\"-->" }
        qw(/plain /page /up2);

    like(::body("/t?body=$page"), qr{plainone,.*404.*GET /up2}s, 'body');
}
--- tree
both:
SERVER GET /t 200
  CLIENT GET 200
  INTERNAL subrequest /plain 200
  INTERNAL subrequest /page 200
    INTERNAL subrequest ^/up[12]$ 200 http.route=^/up[12]$
      CLIENT GET 200
    INTERNAL subrequest /none 404
  INTERNAL subrequest ^/up[12]$ 200
    CLIENT GET 200



=== TEST 10: SSI that keeps what comes in a variable
--- config
location /t { ssi on; default_type text/html; try_files /t.html =404; }
location = /up { internal; proxy_pass http://$TEST_NGINX_UPSTREAM:/?body=up; }
location /plain { return 200 plain; }
--- user_files
>>> t.html
<!--#include virtual="/up" set="a" --><!--#include virtual="/plain" set="b" -->
<!--#echo var="b" --> <!--#echo var="a" -->
--- client eval
sub { like(::body('/t'), qr/plain up/, 'body') }
--- tree
internal:
SERVER GET /t 200
  INTERNAL subrequest /up 200
    CLIENT GET 200
  INTERNAL subrequest /plain 200
user:
SERVER GET /t 200
  INTERNAL subrequest 200
    CLIENT GET 200
  INTERNAL subrequest /plain 200



=== TEST 11: SSI of 200 subrequests
--- config
location /t { ssi on; default_type text/html; try_files /t.html =404; }
location /a { return 200 "$arg_n,"; }
--- user_files eval
">>> t.html\n"
    . CORE::join '', map { "<!--#include virtual=\"/a?n=$_\" -->" } 1 .. 200
--- client eval
sub { like(::body('/t'), qr/\b1,2,.*,199,200,$/s, 'body') }
--- tree eval
"both:\nSERVER GET /t 200\n" . "  INTERNAL subrequest /a 200\n" x 200



=== TEST 12: SSI that includes itself, until nginx has enough
--- config
location /t { ssi on; default_type text/html; try_files /t.html =404; }
--- user_files
>>> t.html
<!--#include virtual="/t" -->
--- client eval
sub { like(get('/t'), qr/ 200 /, 'status 200') }
--- error_log
subrequests cycle while processing
--- tree eval
"both:\nSERVER GET /t 200\n"
    . CORE::join '', map { '  ' x $_ . "INTERNAL subrequest /t 200\n" } 1 .. 51



=== TEST 13: addition
--- config
addition_types *;
location /t {
    add_before_body /before;
    add_after_body /after;
    try_files /t.txt =404;
}
location /u {
    add_before_body /before;
    add_after_body /after;
    proxy_pass http://$TEST_NGINX_UPSTREAM:/?body=text;
}
location /before { return 200 "before\n"; }
location /after { proxy_pass http://$TEST_NGINX_UPSTREAM:/?body=after; }
--- user_files
>>> t.txt
text
--- client eval
sub {
    like(::body('/t'), qr/before\n.*text\n.*after/s, 'body');
    like(::body('/u'), qr/before\n.*text.*after/s, 'body');
}
--- tree
both:
SERVER GET /t 200
  INTERNAL subrequest /before 200
  INTERNAL subrequest /after 200
    CLIENT GET 200
SERVER GET /u 200
  CLIENT GET 200
  INTERNAL subrequest /before 200
  INTERNAL subrequest /after 200
    CLIENT GET 200



=== TEST 14: slice: each has a subrequest, and an attempt with an id of its own
--- config
location /t {
    slice 1k;
    proxy_set_header Range $slice_range;
    proxy_http_version 1.1;
    proxy_pass http://unix:$TEST_NGINX_DIR/traced.sock:/t.txt;
}
--- user_files eval
">>> t.txt\n" . 'x' x 2500
--- client eval
sub {
    is(length ::body('/t'), 2500, 'all');
    is(length ::body('/t', 'Range: bytes=1500-2200'), 701, 'a part');
}
--- tree
internal:
SERVER GET /t 200
  CLIENT GET 206
    SERVER GET 206
  INTERNAL subrequest /t 200
    CLIENT GET 206
      SERVER GET 206
  INTERNAL subrequest /t 200
    CLIENT GET 206
      SERVER GET 206
SERVER GET /t 206
  CLIENT GET 206
    SERVER GET 206
  INTERNAL subrequest /t 206
    CLIENT GET 206
      SERVER GET 206
user:
SERVER GET /t 200
  CLIENT GET 206
  INTERNAL subrequest /t 200
    CLIENT GET 206
  INTERNAL subrequest /t 200
    CLIENT GET 206
SERVER GET /t 206
  CLIENT GET 206
  INTERNAL subrequest /t 206
    CLIENT GET 206



=== TEST 15: a cache that is updated behind the client's back
--- http
proxy_cache_path $TEST_NGINX_SERVROOT/cache keys_zone=cache:1m;
--- config
location /t {
    proxy_cache cache;
    proxy_cache_valid 1s;
    proxy_cache_use_stale updating;
    proxy_cache_background_update on;
    proxy_pass http://unix:$TEST_NGINX_DIR/slow.sock:/;
}
--- client eval
sub {
    like(get('/t'), qr/ 200 .*slow/s, 'status 200') for 1, 2;
    select undef, undef, undef, 2;
    like(get('/t'), qr/ 200 .*slow/s, 'status 200');
}
--- tree
internal:
SERVER GET /t 200 nginx.cache.status=MISS
  CLIENT GET 200
SERVER GET /t 200 nginx.cache.status=HIT
SERVER GET /t 200 nginx.cache.status=STALE
  INTERNAL subrequest /t 200 outlives
    CLIENT GET 200
user:
SERVER GET /t 200 nginx.cache.status=-
  CLIENT GET 200
SERVER GET /t 200 nginx.cache.status=-
SERVER GET /t 200 nginx.cache.status=-
  INTERNAL subrequest /t 200 outlives
    CLIENT GET 200



=== TEST 16: echo, one after the other and all at once
--- config
location /t {
    echo_location /a;
    echo_subrequest POST /up -b hello;
    echo_location /up;
}
location /u {
    echo_location_async /up;
    echo_subrequest_async HEAD /a;
    echo_location_async /up;
    echo done;
}
location /a { echo a; }
location /up { proxy_pass http://$TEST_NGINX_UPSTREAM:/?body=up; }
--- client eval
sub {
    like(get('/t'), qr/a\n.*up.*up/s, 'body');
    like(get('/u'), qr/up.*up.*done/s, 'body');
}
--- tree
both:
SERVER GET /t 200
  INTERNAL subrequest /a 200
  INTERNAL subrequest /up 200
    CLIENT POST 200
  INTERNAL subrequest /up 200
    CLIENT GET 200
SERVER GET /u 200
  INTERNAL subrequest /up 200
    CLIENT GET 200
  INTERNAL subrequest /a 200
  INTERNAL subrequest /up 200
    CLIENT GET 200



=== TEST 17: Lua: a capture in each phase, and several at once
--- skip_eval: 3: ($ENV{TEST_NGINX_LOAD_MODULES} // '') !~ /_lua_/
--- config
location /t {
    access_by_lua_block { ngx.location.capture("/a?access") }
    content_by_lua_block {
        local up = ngx.location.capture("/up", { method = ngx.HTTP_POST,
                                                 body = "hello" })
        local a, b, c = ngx.location.capture_multi({
            { "/a" }, { "/up" }, { "/none" } })
        ngx.say(up.body, a.body, b.body, c.status)
    }
}
location /u {
    rewrite_by_lua_block {
        ngx.ctx.early = ngx.location.capture("/a?rewrite").body
    }
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
location /a { return 200 a; }
location /up { internal; proxy_pass http://$TEST_NGINX_UPSTREAM:/?body=up; }
location /none { return 404; }
--- client eval
sub {
    like(::body('/t'), qr/upaup404/, 'body');
    like(get('/u'), qr/ 200 /, 'status 200');
}
--- tree
internal:
SERVER GET /t 200
  INTERNAL subrequest /a 200
  INTERNAL subrequest /up 200
    CLIENT POST 200
  INTERNAL subrequest /a 200
  INTERNAL subrequest /up 200
    CLIENT GET 200
  INTERNAL subrequest /none 404
SERVER GET /u 200
  INTERNAL subrequest /a 200
  CLIENT GET 200
user:
SERVER GET /t 200
  INTERNAL subrequest /a 200
  INTERNAL subrequest 200
    CLIENT POST 200
  INTERNAL subrequest /a 200
  INTERNAL subrequest 200
    CLIENT GET 200
  INTERNAL subrequest /none 404
SERVER GET /u 200
  INTERNAL subrequest /a 200
  CLIENT GET 200



=== TEST 18: Lua gets what a capture brings that is redirected on its way
--- skip_eval: 3: ($ENV{TEST_NGINX_LOAD_MODULES} // '') !~ /_lua_/
--- config
location /t {
    content_by_lua_block {
        for _, path in ipairs({ "/try", "/accel", "/rewrite", "/exec" })
        do
            local res = ngx.location.capture(path)
            ngx.say(path, " ", res.status, " ", res.body)
        end
    }
}
location /try { try_files /nosuch @named; }
location /accel { proxy_pass http://$TEST_NGINX_UPSTREAM:/?redirect=/page; }
location /rewrite { rewrite ^ /page last; }
location /exec { content_by_lua_block { ngx.exec("/page") } }
location /page { return 200 page; }
location @named { return 201 named; }
--- client eval
sub {
    is(::body('/t'), "/try 201 named\n/accel 200 page\n/rewrite 200 page\n"
       . "/exec 200 page\n", 'bodies');
}
--- tree
internal:
SERVER GET /t 200
  INTERNAL subrequest @named 201
  INTERNAL subrequest /page 200
    CLIENT GET 200
  INTERNAL subrequest /page 200
  INTERNAL subrequest /page 200
user:
SERVER GET /t 200
  INTERNAL subrequest 201
  INTERNAL subrequest /page 200
    CLIENT GET 200
  INTERNAL subrequest /page 200
  INTERNAL subrequest /page 200



=== TEST 19: Lua: the span of a capture is as long as what is captured
--- skip_eval: 3: ($ENV{TEST_NGINX_LOAD_MODULES} // '') !~ /_lua_/
--- config
location /t {
    content_by_lua_block {
        ngx.sleep(0.1)
        local slow, fast = ngx.location.capture_multi({
            { "/slow" }, { "/fast" } })
        ngx.sleep(0.1)
        ngx.say(slow.body, fast.body)
    }
}
location /slow { content_by_lua_block { ngx.sleep(0.3); ngx.print("slow") } }
location /fast { return 200 fast; }
--- client eval
sub { like(::body('/t'), qr/slowfast/, 'body') }
--- tree
both:
SERVER GET /t 200
  INTERNAL subrequest /slow 200
  INTERNAL subrequest /fast 200
--- check_spans eval
sub {
    for my $span (@_) {
        my ($least, $most) = $span->{kind} eq 'SERVER' ? (0.49e9, 1e9)
            : $span->{name} =~ /slow/ ? (0.29e9, 0.45e9) : (0, 0.1e9);

        cmp_ok(::lasts($span), '>=', $least, "$span->{name} is long enough");
        cmp_ok(::lasts($span), '<', $most, 'and no longer');
    }
}



=== TEST 20: locations that end a subrequest at once, or elsewhere
--- config
ssi on;
location /t { default_type text/html; try_files /t.html =404; }
location /internal { internal; return 200 internal; }
location /return { return 502; }
location /error { error_page 404 =200 /page; return 404; }
location /named { error_page 502 @named; proxy_pass http://127.0.0.1:1; }
location @named { return 200 named; }
location /page { return 200 page; }
--- user_files
>>> t.html
<!--#include virtual="/internal" -->,<!--#include virtual="/return" -->,
<!--#include virtual="/error" -->,<!--#include virtual="/named" -->
--- client eval
sub { like(::body('/t'), qr/internal,.*502.*page,.*named/s, 'body') }
--- error_log
connect() failed
--- tree
internal:
SERVER GET /t 200
  INTERNAL subrequest /internal 200
  INTERNAL subrequest /return 502 error=502 events=-
  INTERNAL subrequest /page 200
    * redirect http.route=/page url.path=/page http.response.status_code=-
  INTERNAL subrequest @named 502 error=502
    * redirect http.route=@named url.path=/named http.response.status_code=502
    CLIENT GET error=connect
user:
SERVER GET /t 200
  INTERNAL subrequest 200
  INTERNAL subrequest /return 502 error=502
  INTERNAL subrequest /page 200
    * redirect http.route=/page url.path=- http.response.status_code=-
  INTERNAL subrequest 502 error=502
    * redirect http.route=- url.path=- http.response.status_code=502
    CLIENT GET error=connect



=== TEST 21: trace_subrequests off: attempts are those of what caused it
--- config
ssi on;
ssi_types *;
location /t {
    auth_request /auth;
    mirror /mirror;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
location /auth {
    trace_subrequests off;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
location /mirror { proxy_pass http://$TEST_NGINX_UPSTREAM; }
location /u {
    trace_subrequests off;
    try_files /u.txt =404;

    location /u/off { try_files /off.txt =404; }
    location /u/up { proxy_pass http://$TEST_NGINX_UPSTREAM; }
    location /u/on {
        trace_subrequests on;
        proxy_pass http://$TEST_NGINX_UPSTREAM:/?;
    }
}
--- user_files
>>> u.txt
<!--#include virtual="/u/on" --><!--#include virtual="/u/off" -->
>>> off.txt
<!--#include virtual="/u/on" --><!--#include virtual="/u/up" -->
--- client eval
sub { like(get($_), qr/ 200 /, 'status 200') for '/t', '/u' }
--- tree
both:
SERVER GET /t 200
  CLIENT GET 200
  CLIENT GET 200
  INTERNAL subrequest /mirror 200 may-outlive
    CLIENT GET 200
SERVER GET /u 200
  INTERNAL subrequest /u/on 200
    CLIENT GET 200
  INTERNAL subrequest /u/on 200
    CLIENT GET 200
  CLIENT GET 200



=== TEST 22: neither subrequests nor upstreams: the request's own id is sent
--- config
trace_subrequests off;
trace_upstream off;
location /t {
    auth_request /auth;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
location /auth { proxy_pass http://$TEST_NGINX_UPSTREAM; }
location /sub {
    auth_request /sub/auth;
    proxy_pass http://$TEST_NGINX_UPSTREAM;

    location /sub/auth {
        trace_subrequests on;
        proxy_pass http://$TEST_NGINX_UPSTREAM;
    }
}
--- client eval
sub { like(get($_), qr/ 200 /, 'status 200') for '/t', '/sub' }
--- tree
both:
SERVER GET /t 200 sent=2
SERVER GET /sub 200 sent=1
  INTERNAL subrequest /sub/auth 200 sent=1



=== TEST 23: log_subrequest changes nothing, and logs the ids of each
--- http
log_format ids "$uri $internal_span_id $user_span_id $internal_traceparent";
--- config
log_subrequest on;
access_log logs/ids.log ids;
ssi on;
ssi_types *;
location /t {
    auth_request /auth;
    mirror /mirror;
}
location /nested { }
location /auth { return 204; }
location /mirror { return 204; }
location /last { return 200 last; }
location /not { trace_subrequests off; return 204; }
--- user_files
>>> t
<!--#include virtual="/nested" --><!--#include virtual="/not" -->
>>> nested
<!--#include virtual="/last" -->
--- client eval
sub { like(::body('/t'), qr/last/, 'body') }
--- tree
both:
SERVER GET /t 200
  INTERNAL subrequest /auth 204
  INTERNAL subrequest /mirror 204
  INTERNAL subrequest /nested 200
    INTERNAL subrequest /last 200
--- check_spans eval
sub {
    open my $fh, '<', "$ENV{TEST_NGINX_SERVROOT}/logs/ids.log" or die $!;
    my @lines = map { CORE::chomp; $_ } <$fh>;
    my @internal = grep { !exists $_->{headers}{'x-tenant'} } @_;
    my %user = map { $_->{name} => $_->{span_id} }
        grep { exists $_->{headers}{'x-tenant'} } @_;
    my %span = map { $_->{attributes}{'url.path'} => $_ } @internal;

    $span{'/not'} = $span{'/t'};
    is_deeply([sort @lines], [map { CORE::join ' ', $_, $span{$_}{span_id},
        $user{$span{$_}{name}}, ::traceparent_of($span{$_}) }
        sort keys %span], 'logged');
}



=== TEST 24: what an upstream request of a subrequest sends is in its log, too
--- http
log_format ids "$uri $internal_span_id $internal_traceparent";
--- config
log_subrequest on;
access_log logs/ids.log ids;
location /t {
    auth_request /auth;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
location /auth { proxy_pass http://$TEST_NGINX_UPSTREAM; }
--- client eval
sub { like(get('/t'), qr/ 200 /, 'status 200') }
--- tree
both:
SERVER GET /t 200
  INTERNAL subrequest /auth 200
    CLIENT GET 200
  CLIENT GET 200
--- check_spans eval
sub {
    my ($request) = ::of(SERVER => 'internal', @_);
    my ($auth) = ::of(INTERNAL => 'internal', @_);
    my %attempt = map { $_->{parent_span_id} => $_ }
        ::of(CLIENT => 'internal', @_);

    open my $fh, '<', "$ENV{TEST_NGINX_SERVROOT}/logs/ids.log" or die $!;
    is(CORE::join('', <$fh>), CORE::join('', map {
        "$_->[0] $_->[1]{span_id} "
        . ::traceparent_of($attempt{$_->[1]{span_id}}) . "\n"
    } ['/auth', $auth], ['/t', $request]), 'logged');
}



=== TEST 25: the client leaves while a subrequest is under way
--- config
location /t { auth_request /auth; try_files /t.txt =404; }
location /u {
    ssi on;
    ssi_types *;
    postpone_output 0;
    try_files /u.txt =404;
}
location /auth { proxy_pass http://unix:$TEST_NGINX_DIR/slow.sock:/never; }
--- user_files
>>> u.txt
text <!--#include virtual="/auth" -->
--- client eval
sub {
    is(talk(::request('/t'), 0.2), '', 'no answer');
    like(talk(::request('/u'), 0.2), qr/ 200 .*text/s, 'a part');
}
--- tree
both:
SERVER GET /t error=client_closed
  INTERNAL subrequest /auth
    CLIENT GET error=client_closed
SERVER GET /u 200 error=client_closed
  INTERNAL subrequest /auth
    CLIENT GET error=client_closed



=== TEST 26: a request that is not recorded has none that are
--- config
trace internal off;
trace user off;
ssi on;
ssi_types *;
location /t {
    auth_request /auth;
    mirror /mirror;
    add_before_body /on;
    try_files /t.txt =404;
}
location /auth {
    trace internal on;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
location /mirror {
    trace internal on;
    trace user on;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
location /on { trace internal on; return 200 on; }
location /request { trace internal on; return 204; }
--- user_files
>>> t.txt
<!--#include virtual="/on" -->
--- client eval
sub { get('/t', '/request') }
--- tree
SERVER GET /request 204



=== TEST 27: what is recorded in one pipeline leaves nothing in the other
--- config
location /t {
    trace user off;
    auth_request /auth;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
location /u {
    trace internal off;
    auth_request /auth;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
location /auth {
    trace user on;
    trace internal on;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
--- client eval
sub { like(get($_), qr/ 200 /, 'status 200') for '/t', '/u' }
--- tree
internal:
SERVER GET /t 200
  INTERNAL subrequest /auth 200
    CLIENT GET 200
  CLIENT GET 200
user:
SERVER GET /u 200
  INTERNAL subrequest /auth 200
    CLIENT GET 200
  CLIENT GET 200



=== TEST 28: a subrequest into a location that is off belongs to its request
--- config
location /t {
    auth_request /off;
    try_files /t.txt =404;
}
location /off {
    trace internal off;
    trace user off;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
--- user_files
>>> t.txt
text
--- request
GET /t
--- tree
both:
SERVER GET /t 200
  INTERNAL subrequest /off 200
    CLIENT GET 200



=== TEST 29: whose spans they are may be known when a subrequest has ended
--- http
server {
    listen unix:$TEST_NGINX_DIR/tenant.sock;
    trace internal off;
    trace user off;
    add_header X-Tenant late;
    return 204;
}
--- config
location /t {
    trace_routing $tenant;
    auth_request /auth;
    auth_request_set $tenant $upstream_http_x_tenant;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
location /auth { proxy_pass http://unix:$TEST_NGINX_DIR/tenant.sock; }
--- request
GET /t
--- tree
both:
SERVER GET /t 200
  INTERNAL subrequest /auth 204
    CLIENT GET 204 sent=0
  CLIENT GET 200
--- check_spans eval
sub {
    is_deeply([map { $_->{headers}{'x-tenant'} // () } @_], [('late') x 4],
        'all are of this tenant');
}



=== TEST 30: Lua gets what a capture has before an error page makes it another
--- skip_eval: 3: ($ENV{TEST_NGINX_LOAD_MODULES} // '') !~ /_lua_/
--- config
location /t {
    content_by_lua_block {
        local res = ngx.location.capture("/error")
        ngx.print(res.status, res.body)
    }
}
location /error { error_page 404 = /page; return 404; }
location /page { return 200 page; }
--- client eval
sub { is(::body('/t'), '404', 'body') }
--- tree
both:
SERVER GET /t 200
  INTERNAL subrequest /error 404



=== TEST 31: the client leaves when it has its response, the mirror goes on
--- config
location /t {
    mirror /mirror;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
location /mirror { proxy_pass http://unix:$TEST_NGINX_DIR/slow.sock:/; }
--- client eval
sub { like(talk(::request('/t'), 0.2), qr/ 200 .*GET \/t/s, 'answer') }
--- tree
both:
SERVER GET /t 200
  CLIENT GET 200
  INTERNAL subrequest /mirror 200 outlives
    CLIENT GET 200 sent=0



=== TEST 32: HTTP/2
--- http
server {
    listen unix:$TEST_NGINX_DIR/h2.sock http2;
    location /t {
        auth_request /auth;
        mirror /mirror;
        ssi on;
        proxy_pass http://$TEST_NGINX_UPSTREAM;
    }
    location /auth { proxy_pass http://$TEST_NGINX_UPSTREAM; }
    location /mirror { proxy_pass http://unix:$TEST_NGINX_DIR/slow.sock:/; }
    location /a { return 200 included; }
}
--- config
location /t { return 204; }
--- client eval
sub {
    ::connection();                 # waits until nginx listens
    like(`curl -s --max-time 5 --http2-prior-knowledge -g \\
        --unix-socket $::DIR/h2.sock \\
        'http://a/t?body=<!--%23include%20virtual="/a"-->'`,
        qr/included/, 'body');
}
--- tree
both:
SERVER GET /t 200
  INTERNAL subrequest /auth 200
    CLIENT GET 200
  CLIENT GET 200
  INTERNAL subrequest /mirror 200 outlives
    CLIENT GET 200 sent=0
  INTERNAL subrequest /a 200



=== TEST 33: auth_request that sends the client to a login
--- config
location /t {
    auth_request /auth;
    error_page 401 = @login;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
location /auth { proxy_pass http://$TEST_NGINX_UPSTREAM:/?status=401; }
location @login { return 302 /login; }
--- request
GET /t
--- error_code: 302
--- tree
internal:
SERVER GET @login 302
  * redirect http.route=@login url.path=/t
  INTERNAL subrequest /auth 401
    CLIENT GET 401 error=401
user:
SERVER GET 302
  * redirect http.route=-
  INTERNAL subrequest /auth 401
    CLIENT GET 401 error=401



=== TEST 34: what a subrequest finds in a cache needs no attempt
--- http
proxy_cache_path $TEST_NGINX_SERVROOT/cache keys_zone=cache:1m;
--- config
location /t { ssi on; default_type text/html; try_files /t.html =404; }
location /cached {
    proxy_cache cache;
    proxy_cache_valid 1m;
    proxy_pass http://$TEST_NGINX_UPSTREAM:/?body=cached;
}
--- user_files
>>> t.html
<!--#include virtual="/cached" wait="yes" -->,<!--#include virtual="/cached" -->
--- client eval
sub { like(::body('/t'), qr/cached,cached/, 'body') for 1, 2 }
--- tree
both:
SERVER GET /t 200 nginx.cache.status=-
  INTERNAL subrequest /cached 200
    CLIENT GET 200
  INTERNAL subrequest /cached 200
SERVER GET /t 200 nginx.cache.status=-
  INTERNAL subrequest /cached 200
  INTERNAL subrequest /cached 200



=== TEST 35: a slow mirror, where the answer has no body
--- config
location /t {
    mirror /mirror;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
location /u {
    mirror /mirror;
    proxy_pass http://$TEST_NGINX_UPSTREAM:/?status=204;
}
location /mirror { proxy_pass http://unix:$TEST_NGINX_DIR/slow.sock:/; }
--- client eval
sub { talk("HEAD /t HTTP/1.0\r\n\r\n"); get('/u') }
--- tree
both:
SERVER HEAD /t 200
  CLIENT HEAD 200
  INTERNAL subrequest /mirror 200 outlives
    CLIENT HEAD 200 sent=0
SERVER GET /u 204
  CLIENT GET 204
  INTERNAL subrequest /mirror 200 outlives
    CLIENT GET 200 sent=0
--- check_spans eval
sub {
    cmp_ok(::lasts($_), '<', 0.25e9, "$_->{name} is over soon")
        for grep { $_->{kind} eq 'SERVER' } @_;
}



=== TEST 36: a slow mirror, and a post_action that fails
--- config
location /t {
    mirror /mirror;
    post_action /after;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
location /mirror { proxy_pass http://unix:$TEST_NGINX_DIR/slow.sock:/; }
location /after { return 503; }
--- client eval
sub { like(get('/t'), qr/ 200 .*GET \/t/s, 'answer') }
--- tree
both:
SERVER GET /t 200 network.protocol.version=1.1
  CLIENT GET 200
  INTERNAL subrequest /mirror 200 outlives
    CLIENT GET 200 sent=0
--- check_spans eval
sub {
    cmp_ok(::lasts($_), '<', 0.25e9, "$_->{name} is over soon")
        for grep { $_->{kind} eq 'SERVER' } @_;
}



=== TEST 37: more subrequests than a request may have spans of, each lost once
--- log_level: warn
--- config
default_type text/html;
trace user off;
location /t { ssi on; try_files /t.html =404; }
location /a { echo a; }
location /status { trace internal off; trace_status format=json; }
--- user_files eval
">>> t.html\n" . '<!--#include virtual="/a" -->' x 1200
--- client eval
sub { is(scalar(() = ::body('/t') =~ /^a$/mg), 1200, 'subrequests') }
--- tree eval
"SERVER GET /t 200\n" . "  INTERNAL subrequest /a 200\n" x 1000
--- check_spans eval
sub { like(::body('/status'), qr/"request_limit": 200\D/, 'the others') }

# trace_span: a span for the time that a request or subrequest is in a location;
# what is done there hangs below it.

use strict;
use warnings;
use Wire;

# the span of a name and a pipeline

sub main::named {
    my ($name, $pipeline, @spans) = @_;

    return grep {
        $_->{name} eq $name
            && ($pipeline eq 'user') == exists $_->{headers}{'x-tenant'}
    } @spans;
}

both_record(<<'_EOC_');
proxy_next_upstream http_503;
upstream two {
    server $TEST_NGINX_UPSTREAM max_fails=0;
    server $TEST_NGINX_UPSTREAM max_fails=0;
}
_EOC_

no_long_string();
no_shuffle();
run_tests();

__DATA__

=== TEST 1: attempts and subrequests hang below it
--- config
location /t {
    trace_span work;
    auth_request /auth;
    proxy_pass http://two/;
}
location /auth { proxy_pass http://two/?try=204; }
--- client eval
sub { get('/t?try=503,200') }
--- tree
both:
SERVER GET /t 200
  INTERNAL work events=- status=UNSET
    INTERNAL subrequest /auth 204
      CLIENT GET 204
    CLIENT GET 503 error=503
    CLIENT GET 200 resend=1



=== TEST 2: without an upstream, the request is in its location from preaccess on
--- config
location /t {
    trace_span work;
    echo_sleep 0.1;
    echo ok;
}
--- client eval
sub { get('/t') }
--- tree
both:
SERVER GET /t 200
  INTERNAL work
--- check_spans eval
sub {
    for my $pipeline (qw(internal user)) {
        my ($span) = main::named('work', $pipeline, @_);
        my ($request) = main::named('GET /t', $pipeline, @_);

        cmp_ok($span->{end_time_unix_nano} - $span->{start_time_unix_nano},
               '>', 99e6, "$pipeline: it lasts");
        is($span->{end_time_unix_nano}, $request->{end_time_unix_nano},
           "$pipeline: and ends with the request");
    }
}



=== TEST 3: internal: the user's tree has nothing of it
--- config
location /t {
    trace_span INTERNAL-MARKER internal;
    auth_request /auth;
    proxy_pass http://two/;
}
location /auth {
    trace_span INTERNAL-MARKER-too internal;
    proxy_pass http://two/?try=204;
}
--- client eval
sub { get('/t') }
--- tree
internal:
SERVER GET /t 200
  INTERNAL INTERNAL-MARKER
    INTERNAL subrequest /auth 204
      INTERNAL INTERNAL-MARKER-too
        CLIENT GET 204
    CLIENT GET 200
user:
SERVER GET /t 200
  INTERNAL subrequest /auth 204
    CLIENT GET 204
  CLIENT GET 200



=== TEST 4: user: the operator's tree has nothing of it
--- config
location /t {
    trace_span work user;
    proxy_pass http://two/;
}
--- client eval
sub { get('/t') }
--- tree
internal:
SERVER GET /t 200
  CLIENT GET 200
user:
SERVER GET /t 200
  INTERNAL work
    CLIENT GET 200



=== TEST 5: only the pipeline that records has it
--- trace: trace user on;
--- config
location /both { trace_span both; proxy_pass http://two/; }
location /internal { trace_span internal internal; proxy_pass http://two/; }
location /off {
    trace user off;
    trace_span off;
    proxy_pass http://two/;
}
--- client eval
sub { get($_) for qw(/both /internal /off) }
--- tree
user:
SERVER GET /both 200
  INTERNAL both
    CLIENT GET 200
SERVER GET /internal 200
  CLIENT GET 200



=== TEST 6: it ends where the request is redirected, and another one begins
--- config
recursive_error_pages on;
location /first {
    trace_span "first $uri";
    proxy_intercept_errors on;
    error_page 502 = /second;
    proxy_pass http://two/?try=502;
}
location /second {
    trace_span "second $uri";
    proxy_intercept_errors on;
    error_page 502 = @third;
    proxy_pass http://two/?try=502;
}
location @third { proxy_pass http://two; }
--- client eval
sub { get('/first') }
--- tree
internal:
SERVER GET @third 200
  INTERNAL first /second
    CLIENT GET 502 error=502
  INTERNAL second /second
    CLIENT GET 502 error=502
  CLIENT GET 200
user:
SERVER GET 200
  INTERNAL first /second
    CLIENT GET 502 error=502
  INTERNAL second /second
    CLIENT GET 502 error=502
  CLIENT GET 200



=== TEST 7: try_files, and back into the location that it came from
--- config
location /t {
    trace_span first;
    try_files /nothing /t2;
}
location /t2 {
    trace_span "t $upstream_status";
    error_page 502 = /t2?a=3;
    proxy_intercept_errors on;
    proxy_pass http://two/?try=502;
    if ($arg_a = 3) { proxy_pass http://two; }
}
--- client eval
sub { get('/t?a=1') }
--- tree
both:
SERVER GET /t2 200
  INTERNAL first
  INTERNAL t 502
    CLIENT GET 502 error=502
  INTERNAL t 502 : 200
    CLIENT GET 200



=== TEST 8: what is rewritten elsewhere or answered in the rewrites has none
--- config
location /rewritten { trace_span rewritten; rewrite ^ /t last; }
location /returned { trace_span returned; return 204; }
location /t { trace_span t; proxy_pass http://two/; }
--- client eval
sub { get($_) for qw(/rewritten /returned) }
--- tree
both:
SERVER GET /t 200
  INTERNAL t
    CLIENT GET 200
SERVER GET /returned 204



=== TEST 9: an if has that of its location, or its own, or is the only one
--- config
location /one {
    trace_span location;
    set $x 1;
    if ($x) { set $y 1; }
    proxy_pass http://two;
}
location /two {
    trace_span location;
    if ($arg_own) { trace_span own; }
    proxy_pass http://two;
}
location /three {
    if ($arg_own) { trace_span alone internal; }
    proxy_pass http://two;
}
--- client eval
sub { get($_) for qw(/one /two /two?own=1 /three /three?own=1) }
--- tree
internal:
SERVER GET /one 200
  INTERNAL location
    CLIENT GET 200
SERVER GET /two 200
  INTERNAL location
    CLIENT GET 200
SERVER GET /two 200
  INTERNAL own
    CLIENT GET 200
SERVER GET /three 200
  CLIENT GET 200
SERVER GET /three 200
  INTERNAL alone
    CLIENT GET 200
user:
SERVER GET /one 200
  INTERNAL location
    CLIENT GET 200
SERVER GET /two 200
  INTERNAL location
    CLIENT GET 200
SERVER GET /two 200
  INTERNAL own
    CLIENT GET 200
SERVER GET /three 200
  CLIENT GET 200
SERVER GET /three 200
  CLIENT GET 200



=== TEST 10: a location within does not inherit it
--- config
location /t {
    trace_span outer;
    location /t/in { proxy_pass http://two; }
    location /t/own { trace_span inner; proxy_pass http://two; }
}
--- client eval
sub { get($_) for qw(/t/in /t/own) }
--- tree
both:
SERVER GET /t/in 200
  CLIENT GET 200
SERVER GET /t/own 200
  INTERNAL inner
    CLIENT GET 200



=== TEST 11: the name is read at the end, cut at 64 bytes, and not empty
--- config
location /t {
    trace_span $upstream_http_x_name$sent_http_x_name;
    add_header x-name $arg_name;
    echo ok;
}
--- client eval
sub { get($_) for '/t?name=late', '/t?name=' . 'n' x 65, '/t' }
--- check_spans eval
sub {
    is_deeply([map { $_->{name} } grep { $_->{kind} eq 'INTERNAL' }
               map { main::named($_, 'user', @_) }
               'late', 'n' x 64, 'location'],
              ['late', 'n' x 64, 'location'], 'names');
}
--- tree eval
CORE::join "", "both:\n", map { "SERVER GET /t 200\n  INTERNAL $_\n" }
    'late', 'n' x 64, 'location';



=== TEST 12: subrequests: each is in its own location, and leaves it at its end
--- config
location /t {
    trace_span page;
    echo_location /sub a;
    echo_sleep 0.1;
    echo_location /sub b;
}
location /sub {
    trace_span "sub $args $upstream_status";
    proxy_pass http://two;
}
--- client eval
sub { get('/t') }
--- tree
both:
SERVER GET /t 200
  INTERNAL page
    INTERNAL subrequest /sub 200
      INTERNAL sub a 200
        CLIENT GET 200
    INTERNAL subrequest /sub 200
      INTERNAL sub b 200
        CLIENT GET 200
--- check_spans eval
sub {
    my ($span) = main::named('sub a 200', 'internal', @_);

    cmp_ok($span->{end_time_unix_nano} - $span->{start_time_unix_nano}, '<',
           90e6, 'the first ends before the second begins');
}



=== TEST 13: subrequests that have no span of their own
--- config
location /t {
    trace_span page;
    echo_location /sub a;
    echo_sleep 0.1;
    echo_location /if b;
}
location /sub {
    trace_subrequests off;
    trace_span "sub $args";
    proxy_pass http://two;
}
location /if {
    trace_subrequests off;
    set $yes 1;
    if ($yes) { trace_span "if $args"; }
    proxy_pass http://two;
}
--- client eval
sub { get('/t') }
--- tree
both:
SERVER GET /t 200
  INTERNAL page
    INTERNAL sub a
      CLIENT GET 200
    INTERNAL if b
      CLIENT GET 200
--- check_spans eval
sub {
    my ($span) = main::named('sub a', 'internal', @_);

    cmp_ok($span->{end_time_unix_nano} - $span->{start_time_unix_nano}, '<',
           90e6, 'the first ends before the second begins');
}



=== TEST 14: a subrequest that is redirected
--- config
location /t { echo_location /sub; }
location /sub {
    trace_span first;
    proxy_intercept_errors on;
    error_page 502 = /next;
    proxy_pass http://two/?try=502;
}
location /next { trace_span second; proxy_pass http://two; }
--- client eval
sub { get('/t') }
--- tree
both:
SERVER GET /t 200
  INTERNAL subrequest /next 200
    INTERNAL first
      CLIENT GET 502 error=502
    INTERNAL second
      CLIENT GET 200



=== TEST 15: mirror: its span goes on when that of the request is over
--- config
location /t { trace_span page; mirror /mirror; proxy_pass http://two/; }
location /mirror { trace_span mirror; echo_sleep 0.2; echo ok; }
--- client eval
sub { get('/t') }
--- tree
both:
SERVER GET /t 200
  INTERNAL page
    CLIENT GET 200
    INTERNAL subrequest /mirror 200 outlives
      INTERNAL mirror



=== TEST 16: what goes to an upstream without attempts is its id
--- config
trace_upstream off;
location /t { trace_span work; proxy_pass http://two/; }
location /internal { trace_span work internal; proxy_pass http://two/; }
--- client eval
sub { get($_) for qw(/t /internal) }
--- tree
internal:
SERVER GET /t 200 sent=0
  INTERNAL work sent=1
SERVER GET /internal 200
  INTERNAL work sent=1
user:
SERVER GET /t 200
  INTERNAL work sent=1
SERVER GET /internal 200 sent=1



=== TEST 17: the variables: traceparent is the current span's
--- config
trace_upstream off;
location /t {
    trace_span work;
    add_header x-ids "$user_traceparent $user_span_id";
    echo ok;
}
--- client eval
sub { ($::ids) = get('/t') =~ /x-ids: (.*?)\r/ }
--- tree
both:
SERVER GET /t 200
  INTERNAL work
--- check_spans eval
sub {
    my ($work) = main::named('work', 'user', @_);
    my ($request) = main::named('GET /t', 'user', @_);

    is($::ids, "00-$work->{trace_id}-$work->{span_id}-03 $request->{span_id}",
       'variables');
}



=== TEST 18: of requests that were not sampled, those that are kept have it
--- trace: trace internal ratio=0; trace_keep $arg_keep;
--- config
location /t { trace_span work; proxy_pass http://two/; }
--- client eval
sub { get('/t', '/t?keep=1') }
--- tree
SERVER GET /t 200
  INTERNAL work
    CLIENT GET 200



=== TEST 19: a client that leaves, and a request that is refused
--- config
location /t { trace_span work; proxy_pass http://two/?try=stall; }
location /deny { trace_span deny; deny all; }
location /large { trace_span large; client_max_body_size 1; echo ok; }
--- client eval
sub {
    talk("GET /t HTTP/1.1\r\nHost: a\r\n\r\n", 0.2);
    get('/deny');
    talk("POST /large HTTP/1.0\r\nHost: a\r\nContent-Length: 9\r\n\r\n");
}
--- tree
both:
SERVER GET /t error=client_closed
  INTERNAL work
    CLIENT GET 200 error=client_closed
SERVER GET /deny 403
  INTERNAL deny
SERVER POST /large 413 http.request.method=POST
--- error_log
access forbidden by rule

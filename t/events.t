# Spans are announced while they are open, in each pipeline: what is opened,
# renamed, returned and closed, of every span, in its order and once; and what
# users are told only when it is known who they are.
#
# Beside what is drawn, Events.pm compares all of it with the finished spans.

use strict;
use warnings;

BEGIN {
    my $build = $ENV{TEST_BUILD} || 'build';

    $ENV{TEST_NGINX_LOAD_MODULES} .= " $build/ngx_http_trace_test_module.so"
        if $ENV{TEST_NGINX_LOAD_MODULES};
}

use H2;
use IO::Socket::UNIX;
use JSON::XS;
use Time::HiRes qw(time);
use Wire;

our $DIR = $ENV{TEST_NGINX_DIR};
our ($TRACE, $PARENT) = ('4bf92f3577b34da6a3ce929d0e0e4736',
    '00f067aa0ba902b7');
our ($OP_TRACE, $OP_PARENT) = ('0af7651916cd43dd8448eb211c80319c',
    'b7ad6b7169203331');

our $UPSTREAM = Upstream->new(protocol => 'http', ports => 1,
    socket => "$DIR/two.sock");
$ENV{TEST_NGINX_PORT_A} = $UPSTREAM->{ports}[0];
$ENV{TEST_NGINX_PORT_REFUSING} = Upstream::unused_port();
$ENV{TEST_NGINX_LUA_LOADED} = ($ENV{TEST_NGINX_LOAD_MODULES} // '') =~ /_lua_/
    ? 1 : 0;

# what two servers have in common

open my $out, '>', "$DIR/locations" or die $!;
print $out <<'_EOC_';
location / {
    trace_span work;
    trace_attribute both a $arg_a;
    trace_span_name "$request_method $status";
    auth_request /auth;
    span header open 0 inner;
    span header set 0 n=i1;
    span header event 0 e;
    proxy_pass http://two;
}
location /auth { proxy_pass http://two/?status=204; }
_EOC_
close $out;

END {
    my $status = $?;
    $UPSTREAM->stop;
    $? = $status;
}

# what trace_status says of a pipeline

sub main::counted {
    my ($json) = get('/status') =~ /\r\n\r\n(\{.*\})/s;

    return decode_json($json)->{$_[0]};
}

# |$n| records, which are to be there a second after |$start|

sub main::soon {
    my ($n, $start) = @_;
    my @records = events_until($n);
    my $took = time - $start;

    Test::More::is(scalar @records, $n, "$n events");
    Test::More::cmp_ok($took, '<', 1, "after $took s");
    return @records;
}

# a connection that was upgraded

sub main::upgraded {
    my $socket = connection();

    syswrite $socket, "GET $_[0]?upgrade=1 HTTP/1.1\r\nHost: a\r\n"
        . "Connection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    sysread $socket, my $answer, 4096;
    Test::More::like($answer, qr{\AHTTP/1.1 101 }, 'upgraded');

    return $socket;
}

# both pipelines record and announce, unless the block says otherwise

add_block_preprocessor(sub {
    my $block = shift;
    my $trace = $block->trace
        // "trace internal on;\ntrace user on;\ntrace_events both;";
    my $routing = ($block->http // '') =~ /trace_routing/ ? ''
        : 'trace_routing acme;';

    $block->set_value('http', "$trace\n$routing\n" . <<'_EOC_'
trace_context internal propagate header=x-op-traceparent;
trace_trusted internal all;
proxy_next_upstream error http_503;
upstream two {
    server unix:$TEST_NGINX_DIR/two.sock max_fails=0;
    server 127.0.0.1:$TEST_NGINX_PORT_A max_fails=0;
}
_EOC_
        . ($block->http // '')) if !defined $block->http_config;
    $block->set_value('config', <<'_EOC_' . ($block->config // ''));
location = /status {
    trace internal off; trace user off; trace_status format=json;
}
_EOC_
});

no_long_string();
no_shuffle();
run_tests();

__DATA__

=== TEST 1: all that is said of a request, its attempt, and who asks for it
--- config
location /t { proxy_pass http://two/; }
--- client eval
sub {
    get(["traceparent: 00-$::TRACE-$::PARENT-01",
         "x-op-traceparent: 00-$::OP_TRACE-$::OP_PARENT-01"], '/t');
}
--- events
both:
open SERVER GET /t
  open CLIENT GET
return 200
  close GET
close GET /t
--- check_events eval
sub {
    my @records = @_;

    for my $pipeline (qw(internal user)) {
        my ($open, $attempt) = grep { $_->{event_name} eq 'span.open'
            && $_->{attributes}{'span.pipeline'} eq $pipeline } @records;
        my ($id, $child) = map { $_->{span_id} } $open, $attempt;
        my $of = sub { ('span.pipeline' => $pipeline,
            'span.request_id' => $id, 'span.sequence' => $_[0]) };

        is_deeply([map { [@$_{qw(event_name span_id)}, $_->{attributes}] }
                   grep { $_->{attributes}{'span.pipeline'} eq $pipeline }
                   @records],
        [
            ['span.open', $id, { $of->(0), 'span.kind' => 'SERVER',
                'span.name' => 'GET /t', 'span.parent_id' =>
                    $pipeline eq 'user' ? $::PARENT : $::OP_PARENT }],
            ['span.open', $child, { $of->(1), 'span.kind' => 'CLIENT',
                'span.name' => 'GET', 'span.parent_id' => $id }],
            ['span.return', $id, { $of->(2),
                'http.response.status_code' => 200 }],
            ['span.close', $child, { $of->(3), 'span.status' => 'UNSET' }],
            ['span.close', $id, { $of->(4), 'span.status' => 'UNSET' }],
        ], "$pipeline attributes");

        my %traces = map { $_->{trace_id} => 1 }
            grep { $_->{attributes}{'span.pipeline'} eq $pipeline } @records;
        is(CORE::join(' ', keys %traces),
            $pipeline eq 'user' ? $::TRACE : $::OP_TRACE, "$pipeline trace");
    }

    is(scalar(grep { $_->{headers}{'x-tenant'} // '' eq 'acme' } @records), 5,
        "the user's are routed");
}



=== TEST 2: a trace that begins here has no parent
--- config
location /t { empty_gif; }
--- client eval
sub { get('/t') }
--- events
both:
open SERVER GET /t
return 200
close GET /t
--- check_events eval
sub {
    is(scalar(grep { exists $_->{attributes}{'span.parent_id'} } @_), 0,
        'span.parent_id is absent');
}



=== TEST 3: a file, an index, and none
--- user_files
>>> files/a
text
>>> files/index.html
text
--- config
location /files/ { }
--- client eval
sub { get(map { "/files/$_" } 'a', '', 'none') }
--- events
both:
open SERVER GET /files/
return 200
close GET /files/
open SERVER GET /files/
return 200
close GET /files/
open SERVER GET /files/
return 404
close GET /files/
--- error_log
No such file



=== TEST 4: what is answered before it is announced: opened and closed at once
--- http
server { listen unix:$TEST_NGINX_DIR/return.sock; return 301 /; }
--- config
location /t { return 204; }
--- client eval
sub {
    get('/t');
    ::exchange(::request('/'), "unix:$::DIR/return.sock");
    talk("GET /t HTTP/1.1\r\n\r\n");
}
--- events
both:
open SERVER GET /t
close GET /t
open SERVER GET
close GET
open SERVER GET
close GET



=== TEST 5: retries, one after the other
--- config
location /t { proxy_pass http://two/; }
--- client eval
sub { get('/t?try=503,200'); get('/t?try=close,close') }
--- events
both:
open SERVER GET /t
  open CLIENT GET
  close GET ERROR error=503
  open CLIENT GET
return 200
  close GET
close GET /t
open SERVER GET /t
  open CLIENT GET
  close GET ERROR error=reset
  open CLIENT GET
  close GET ERROR error=reset
return 502
close GET /t ERROR error=502
--- error_log
upstream prematurely closed



=== TEST 6: trace_span, and what is below it
--- config
location /t {
    trace_span work;
    proxy_pass http://two/?try=503,200;
}
--- client eval
sub { get('/t') }
--- events
both:
open SERVER GET /t
  open INTERNAL work
    open CLIENT GET
    close GET ERROR error=503
    open CLIENT GET
return 200
    close GET
  close work
close GET /t



=== TEST 7: custom spans: names, attributes of each type, a status
--- config
location /t {
    span header open 0 work;
    span header current 0;
    span header set 0 string=stext int=i-9007199254740993 double=d0.25;
    span header set 0 true=b1 false=b0 empty=s number=d1e300 string=sother;
    span header rename 0 "other work";
    span header open 1 inner;
    span header event 1 happened n=i1;
    span header status 1 2;
    span header close 1;
    span header status 0 1;
    span header close 0;
    proxy_pass http://two;
}
--- client eval
sub { get('/t') }
--- events
both:
open SERVER GET /t
  open CLIENT GET
  open INTERNAL work
  attributes work double=0.25 int=-9007199254740993 string=text
  attributes work empty= false=false number=1e+300 string=other true=true
  name work -> other work
    open INTERNAL inner
    close inner ERROR
  close other work OK
return 200
  close GET
close GET /t
--- check_events eval
sub {
    my @set = map { Events::encode({ map {
        my $record = $_; map { ($_ => $record->{attributes}{$_}) }
            grep { !/\Aspan\./ } keys %{$record->{attributes}} } $_ }) }
        grep { $_->{event_name} eq 'span.attributes' } @_;

    is(CORE::join("\n", sort @set), CORE::join("\n", map { ($_) x 2 }
        '{"double":0.25,"int":-9007199254740993,"string":"text"}',
        '{"empty":"","false":false,"number":1e+300,"string":"other",'
            . '"true":true}'), 'types');
}



=== TEST 8: what is left out of a span is not announced, either
--- config
location /t {
    span header open 0 work;
    span header set 0 a=i1 =i2 b=?3;
    span header sets 0 150;
    span header set 0 "a b=i4";
    span header set 0 late=i5;
    span header close 0;
    proxy_pass http://two;
}
--- client eval
sub { get('/t') }
--- events eval
"both:
open SERVER GET /t
  open CLIENT GET
  open INTERNAL work
  attributes work a=1
  attributes work " . CORE::join(' ', map { "k$_=$_" } sort 0 .. 126) . "
  close work
return 200
  close GET
close GET /t"



=== TEST 9: long names, values that are long and that are no text
--- config
location /t {
    span header open 0 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaałódź;
    span header set 0 long=x60000;
    span header set 0 bytes=hff41;
    span header rename 0 bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb;
    proxy_pass http://two;
}
--- client eval
sub { get('/t') }
--- events eval
my ($a, $b) = ('a' x 63, 'b' x 64);
"both:
open SERVER GET /t
  open CLIENT GET
  open INTERNAL $a
  attributes $a long=" . 'x' x 60000 . "
  attributes $a bytes=\x{fffd}A
  name $a -> $b
return 200
  close GET
  close $b
close GET /t"



=== TEST 10: spans of one pipeline, which in the other are not there
--- config
location /t {
    span header open 0 INTERNAL-MARKER 1;
    span header current 0;
    span header set 0 INTERNAL-MARKER-key=sINTERNAL-MARKER-value;
    span header open 1 tenants 2;
    span header current 1;
    span header set 1 a=i1;
    span header open 2 boths;
    span header rename 0 INTERNAL-MARKER-two;
    span header close 2;
    span header close 1;
    span header close 0;
    proxy_pass http://two;
}
--- client eval
sub { get('/t') }
--- events
internal:
open SERVER GET /t
  open CLIENT GET
  open INTERNAL INTERNAL-MARKER
  attributes INTERNAL-MARKER INTERNAL-MARKER-key=INTERNAL-MARKER-value
    open INTERNAL boths
  name INTERNAL-MARKER -> INTERNAL-MARKER-two
    close boths
  close INTERNAL-MARKER-two
return 200
  close GET
close GET /t
user:
open SERVER GET /t
  open CLIENT GET
  open INTERNAL tenants
  attributes tenants a=1
    open INTERNAL boths
    close boths
  close tenants
return 200
  close GET
close GET /t



=== TEST 11: spans that begin before it is decided come behind their request
--- http
map $arg_no $yes { "" 1; default 0; }
--- trace
trace internal $yes; trace user $yes; trace_events both;
--- config
location /t {
    span rewrite open 0 early;
    span rewrite set 0 a=i1;
    span access open 1 late;
    span access close 0;
    proxy_pass http://two;
}
--- client eval
sub { get(qw(/t /t?no=1)) }
--- events
both:
open SERVER GET /t
  open INTERNAL early
  attributes early a=1
  open INTERNAL late
  close early
  open CLIENT GET
return 200
  close GET
  close late
close GET /t



=== TEST 12: Lua: nested, across yields, an error
--- skip_eval: 8: !$ENV{TEST_NGINX_LUA_LOADED}
--- http
lua_package_path "$TEST_NGINX_LUA/?.lua;;";
init_by_lua_block { trace = require "resty.trace" }
--- config
location /t {
    content_by_lua_block {
        trace.enter_span("outer", function (outer)
            trace.enter_span("inner", function (inner)
                inner:set_attribute("a.b", 1)
                ngx.sleep(0.01)
                inner:update_name("second")
            end)
            pcall(trace.enter_span, "fails", function () error("no") end)
            outer:set_attributes({ yes = true })
        end)
        trace.user.enter_span("users", function () end)
        ngx.say("ok")
    }
}
--- client eval
sub { get('/t') }
--- events
internal:
open SERVER GET /t
  open INTERNAL outer
    open INTERNAL inner
    attributes inner a.b=1
    name inner -> second
    close second
    open INTERNAL fails
    close fails ERROR
  attributes outer yes=true
  close outer
return 200
close GET /t
user:
open SERVER GET /t
  open INTERNAL outer
    open INTERNAL inner
    attributes inner a.b=1
    name inner -> second
    close second
    open INTERNAL fails
    close fails ERROR
  attributes outer yes=true
  close outer
  open INTERNAL users
  close users
return 200
close GET /t



=== TEST 13: the most spans of a request
--- config
location /t {
    span header opens 1200;
    empty_gif;
}
--- client eval
sub { get('/t') }
--- events eval
my $many = "  open INTERNAL one of many\n  close one of many\n" x 1000;
"both:\nopen SERVER GET /t\n${many}return 200\nclose GET /t\n"



=== TEST 14: a name that is known in the end, and one that stays
--- config
location /t {
    trace_span_name "$request_method $status";
    empty_gif;
}
location /same {
    trace_span_name "GET /same";
    empty_gif;
}
location /one {
    trace_span_name internal aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaałódź;
    empty_gif;
}
location /bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb { empty_gif; }
--- client eval
sub { get(qw(/t /same /one), '/' . 'b' x 67) }
--- events eval
my $a = 'a' x 63;
my $b = 'GET /' . 'b' x 59;
my $long = "open SERVER $b\nreturn 200\nclose $b\n";
my $names = "open SERVER GET /t
return 200
name GET /t -> GET 200
close GET 200
open SERVER GET /same
return 200
close GET /same
open SERVER GET /one
return 200
";
"user:\n${names}close GET /one\n$long
internal:\n${names}name GET /one -> $a\nclose $a\n$long"
--- check_spans eval
sub {
    my %names = map { $_->{name} => 1 } @_;

    ok($names{$_}, 'the finished span has all of it')
        for 'a' x 63 . "\x{142}\x{f3}d\x{17a}", 'GET /' . 'b' x 67;
}



=== TEST 15: another location in the end is another name
--- config
location /t {
    error_page 502 /other;
    proxy_pass http://127.0.0.1:$TEST_NGINX_PORT_REFUSING;
}
location /named {
    error_page 404 = @INTERNAL-MARKER;
    return 404;
}
location @INTERNAL-MARKER { proxy_pass http://two; }
location /other { proxy_pass http://two; }
--- client eval
sub { get(qw(/t /named)) }
--- events
internal:
open SERVER GET /t
  open CLIENT GET
  close GET ERROR error=connect
  open CLIENT GET
return 502
  close GET
name GET /t -> GET /other
close GET /other ERROR error=502
open SERVER GET @INTERNAL-MARKER
  open CLIENT GET
return 200
  close GET
close GET @INTERNAL-MARKER
user:
open SERVER GET /t
  open CLIENT GET
  close GET ERROR error=connect
  open CLIENT GET
return 502
  close GET
name GET /t -> GET /other
close GET /other ERROR error=502
open SERVER GET
  open CLIENT GET
return 200
  close GET
close GET
--- error_log
Connection refused



=== TEST 16: how it ended: an error, a client that leaves, a response that is cut
--- config
location /t { proxy_pass http://two; }
location /error { proxy_pass http://two/?status=500; }
location /cut {
    proxy_buffering off;
    proxy_pass http://two;
}
--- client eval
sub {
    get('/error');
    talk(::request('/t?delay=5'), 0.2);
    get('/cut?try=cut');
}
--- events
both:
open SERVER GET /error
  open CLIENT GET
return 500
  close GET ERROR error=500
close GET /error ERROR error=500
open SERVER GET /t
  open CLIENT GET
  close GET error=client_closed
close GET /t error=client_closed
open SERVER GET /cut
  open CLIENT GET
return 200
  close GET ERROR error=reset
close GET /cut ERROR error=reset
--- error_log
upstream prematurely closed



=== TEST 17: who announces: nobody, one of them, a server, a location, an if
--- trace
trace internal on; trace user on;
--- http
server {
    listen unix:$TEST_NGINX_DIR/server.sock;
    trace_events user;
    location /s { empty_gif; }
    location /off { trace_events off; empty_gif; }
}
--- config
location /none { empty_gif; }
location /internal { trace_events internal; empty_gif; }
location /user { trace_events user; empty_gif; }
location /both { trace_events both; empty_gif; }
location /if {
    if ($arg_e) { trace_events internal; proxy_pass http://two; }
    proxy_pass http://two;
}
location /nested {
    trace_events internal;
    location /nested/off { trace_events off; empty_gif; }
    empty_gif;
}
--- client eval
sub {
    get(qw(/none /internal /user /both /if /if?e=1 /nested /nested/off));
    ::exchange(::request($_), "unix:$::DIR/server.sock") for qw(/s /off);
}
--- span_count: 24
--- events
internal:
open SERVER GET /internal
return 200
close GET /internal
open SERVER GET /both
return 200
close GET /both
open SERVER GET /if
  open CLIENT GET
return 200
  close GET
close GET /if
open SERVER GET /nested
return 200
close GET /nested
user:
open SERVER GET /user
return 200
close GET /user
open SERVER GET /both
return 200
close GET /both
open SERVER GET /s
return 200
close GET /s



=== TEST 18: what is not sampled, or not recorded, is not announced
--- trace
trace user on; trace_events both;
--- config
trace_keep $host;
location /kept { trace internal ratio=0; empty_gif; }
location /off { trace internal off; trace user off; empty_gif; }
location /on { trace internal on; trace user off; empty_gif; }
--- client eval
sub { get(qw(/kept /off /on)) }
--- span_count: 3
--- events
internal:
open SERVER GET /on
return 200
close GET /on
user:
open SERVER GET /kept
return 200
close GET /kept
--- check_spans eval
sub { is(scalar @_, 3, 'one of them is kept') }



=== TEST 19: one pipeline alone
--- http_config
trace_exporter internal { endpoint $TEST_NGINX_OTLP; interval 20ms; }
trace internal on;
trace_events internal;
--- config
location /t { empty_gif; }
--- client eval
sub {
    get('/t');
    events_until(3);
    is(main::counted('internal')->{events_exported}, 3, 'counted');
    is(main::counted('user'), undef, 'of the other one nothing is');
}
--- events
internal:
open SERVER GET /t
return 200
close GET /t



=== TEST 20: users are told when it is known who they are
--- http
trace_routing $tenant;
server {
    listen unix:$TEST_NGINX_DIR/auth.sock;
    trace internal off; trace user off;
    location / { add_header x-tenant $http_x_key; return 204; }
}
--- config
location /t {
    auth_request /auth;
    auth_request_set $tenant $upstream_http_x_tenant;
    proxy_pass http://two/;
}
location = /auth {
    internal;
    proxy_pass http://unix:$TEST_NGINX_DIR/auth.sock:/;
}
--- client eval
sub { get(["x-key: $_"], '/t') for qw(acme other) }
--- events
internal:
open SERVER GET /t
  open INTERNAL subrequest /auth
    open CLIENT GET
    close GET
  close subrequest /auth
  open CLIENT GET
return 200
  close GET
close GET /t
open SERVER GET /t
  open INTERNAL subrequest /auth
    open CLIENT GET
    close GET
  close subrequest /auth
  open CLIENT GET
return 200
  close GET
close GET /t
user:
open SERVER GET /t
  open INTERNAL subrequest
    open CLIENT GET
    close GET
  close subrequest
  open CLIENT GET
return 200
  close GET
close GET /t
open SERVER GET /t
  open INTERNAL subrequest
    open CLIENT GET
    close GET
  close subrequest
  open CLIENT GET
return 200
  close GET
close GET /t
--- check_events eval
sub {
    my @requests = grep { $_->[0]{attributes}{'span.pipeline'} eq 'user' }
        Events::requests(@_);

    for my $tenant (qw(acme other)) {
        my %tenants = map { ($_->{headers}{'x-tenant'} => 1) }
            @{shift @requests};
        is(CORE::join(' ', keys %tenants), $tenant, "those of $tenant");
    }
}



=== TEST 21: a user who is known in the end, and one who never is
--- http
trace_routing $upstream_http_x_tenant;
server {
    listen unix:$TEST_NGINX_DIR/app.sock;
    trace internal off; trace user off;
    location / { add_header x-tenant acme; return 204; }
}
--- config
location /late { proxy_pass http://unix:$TEST_NGINX_DIR/app.sock; }
location /never { trace_span work; proxy_pass http://two; }
--- client eval
sub {
    get(qw(/late /never));
    events_until(16);

    my $counted = main::counted('user');
    is($counted->{events_dropped}{no_routing}, 6,
        'an opening and an end of each span');
    is($counted->{events_recorded}, 10, 'are recorded');
}
--- span_count: 7
--- events
internal:
open SERVER GET /late
  open CLIENT GET
return 204
  close GET
close GET /late
open SERVER GET /never
  open INTERNAL work
    open CLIENT GET
return 200
    close GET
  close work
close GET /never
user:
open SERVER GET /late
  open CLIENT GET
  close GET
close GET /late



=== TEST 22: streams of one HTTP/2 connection
--- http
server {
    listen unix:$TEST_NGINX_DIR/h2.sock http2;
    location /wait { proxy_pass http://two; }
    location /at-once { empty_gif; }
}
--- config
location /t { empty_gif; }
--- client eval
sub {
    connection();
    my $h2 = ::h2_connection("$::DIR/h2.sock");

    syswrite $h2, ::h2_get(1, '/wait?delay=5') . ::h2_get(3, '/at-once');
    events_until(10);
    syswrite $h2, ::h2_reset(1);
    events_until(14);
}
--- events
both:
open SERVER GET /wait
  open CLIENT GET
  close GET error=client_closed
close GET /wait error=client_closed
open SERVER GET /at-once
return 200
close GET /at-once



=== TEST 23: 100 Continue is no response
--- config
location /t { proxy_pass http://two; }
--- client eval
sub {
    my $socket = connection();

    syswrite $socket, "POST /t HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
        . "Content-Length: 2\r\nExpect: 100-continue\r\n\r\n";
    like(scalar <$socket>, qr{\AHTTP/1.1 100 }, '100 comes');
    syswrite $socket, 'ab';
    like(CORE::join('', <$socket>), qr{^HTTP/1.1 200 }m, 'and then 200');
}
--- events
both:
open SERVER POST /t
  open CLIENT POST
return 200
  close POST
close POST /t



=== TEST 24: a WebSocket is seen as long as it is there
--- config
location /chat/ {
    proxy_http_version 1.1;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection upgrade;
    proxy_pass http://two;
}
--- client eval
sub {
    my $socket = main::upgraded('/chat/');
    my @requests = Events::requests(main::soon(6, ::time()));
    is(scalar(grep { CORE::join("\n", Events::draw(@$_))
        eq "open SERVER GET /chat/\n  open CLIENT GET\nreturn 101" }
        @requests), 2, 'it is open, in both pipelines');
    is(scalar(my @spans = spans_until(0)), 0, 'and no span has come');

    syswrite $socket, 'hello';
    sysread $socket, my $answer, 5;
    is($answer, 'hello', 'it goes on');
    is(scalar(my @records = events_until(0)), 6, 'of which nothing is said');
    close $socket;
}
--- events
both:
open SERVER GET /chat/
  open CLIENT GET
return 101
  close GET
close GET /chat/



=== TEST 25: a request that waits for its upstream
--- config
location /t { proxy_pass http://two; }
--- client eval
sub {
    my $socket = connection();
    my $start = ::time();

    syswrite $socket, ::request('/t?delay=1.5');
    main::soon(4, $start);
    CORE::join '', <$socket>;
}
--- events
both:
open SERVER GET /t
  open CLIENT GET
return 200
  close GET
close GET /t



=== TEST 26: the finished span is the same with events and without
--- trace
trace internal on; trace user on;
--- http
server {
    listen unix:$TEST_NGINX_DIR/with.sock;
    trace_events both;
    include $TEST_NGINX_DIR/locations;
}
server {
    listen unix:$TEST_NGINX_DIR/without.sock;
    include $TEST_NGINX_DIR/locations;
}
--- config
location /t { return 204; }
--- client eval
sub {
    connection();
    ::exchange(::request('/x?a=1', 'traceparent: 00-'
        . ($_ eq 'with' ? $::TRACE : $::OP_TRACE) . "-$::PARENT-01",
        'tracestate: a=1'), "unix:$::DIR/$_.sock") for qw(with without);
}
--- span_count: 24
--- events
both:
open SERVER GET /
  open INTERNAL work
    open INTERNAL subrequest /auth
      open CLIENT GET
      close GET
    close subrequest /auth
    open CLIENT GET
    open INTERNAL inner
    attributes inner n=1
return 200
    close GET
    close inner
  close work
name GET / -> GET 200
close GET 200
--- check_spans eval
sub {
    my %seen;

    for my $span (@_) {
        my %span = %$span;

        # what differs from request to request
        delete @span{qw(trace_id span_id parent_span_id links request
            start_time_unix_nano end_time_unix_nano)};
        delete $_->{time_unix_nano} for @{$span{events}};
        delete @{$span{attributes}}{qw(network.peer.port network.peer.address
            nginx.upstream.connection_reused server.port)};
        $seen{Events::encode(\%span)}++;
    }

    is(scalar @_, 24, 'twelve each');
    is(CORE::join("\n", grep { $seen{$_} % 2 } sort keys %seen), '',
        'each comes twice');
}



=== TEST 27: requests that share a connection have numbers of their own
--- config
location /t { proxy_pass http://two/; }
location /r { empty_gif; }
--- client eval
sub { get(qw(/r /t /r)) }
--- events
both:
open SERVER GET /r
return 200
close GET /r
open SERVER GET /t
  open CLIENT GET
return 200
  close GET
close GET /t
open SERVER GET /r
return 200
close GET /r



=== TEST 28: users see nothing of the inside
--- http
trace_attribute internal INTERNAL-MARKER-attribute INTERNAL-MARKER-value;
trace_resource INTERNAL-MARKER-resource x;
proxy_set_header Host $host;
upstream INTERNAL-MARKER-upstream { server unix:$TEST_NGINX_DIR/two.sock; }
--- config
location /t {
    error_page 503 = @INTERNAL-MARKER;
    proxy_intercept_errors on;
    proxy_pass http://INTERNAL-MARKER-upstream;
}
location @INTERNAL-MARKER {
    trace_span INTERNAL-MARKER-span internal;
    trace_span_name internal INTERNAL-MARKER-name;
    auth_request /INTERNAL-MARKER-auth;
    proxy_pass http://INTERNAL-MARKER-upstream;
}
location /INTERNAL-MARKER-auth {
    internal;
    proxy_pass http://INTERNAL-MARKER-upstream/?status=204;
}
--- client eval
sub { get('/t?try=503,200') }
--- events
internal:
open SERVER GET /t
  open CLIENT GET
  close GET ERROR error=503
  open INTERNAL INTERNAL-MARKER-span
    open INTERNAL subrequest /INTERNAL-MARKER-auth
      open CLIENT GET
      close GET
    close subrequest /INTERNAL-MARKER-auth
    open CLIENT GET
return 200
    close GET
  close INTERNAL-MARKER-span
name GET /t -> INTERNAL-MARKER-name
close INTERNAL-MARKER-name
user:
open SERVER GET /t
  open CLIENT GET
  close GET ERROR error=503
  open INTERNAL subrequest
    open CLIENT GET
    close GET
  close subrequest
  open CLIENT GET
return 200
  close GET
name GET /t -> GET
close GET



=== TEST 29: attempts and subrequests that no span is made of
--- config
location /none { auth_request /auth; trace_upstream off; proxy_pass http://two; }
location /one {
    auth_request /quiet;
    trace_upstream internal;
    proxy_pass http://two;
}
location = /auth { proxy_pass http://two/?status=204; }
location = /quiet {
    trace_upstream user;
    trace_subrequests off;
    proxy_pass http://two/?status=204;
}
--- client eval
sub { get(qw(/none /one)) }
--- events
internal:
open SERVER GET /none
  open INTERNAL subrequest /auth
    open CLIENT GET
    close GET
  close subrequest /auth
return 200
close GET /none
open SERVER GET /one
  open CLIENT GET
return 200
  close GET
close GET /one
user:
open SERVER GET /none
  open INTERNAL subrequest /auth
    open CLIENT GET
    close GET
  close subrequest /auth
return 200
close GET /none
open SERVER GET /one
  open CLIENT GET
  close GET
return 200
close GET /one



=== TEST 30: what nothing is known of without default attributes
--- config
trace_default_attributes internal none;
location /t { proxy_pass http://two/?status=500; }
--- client eval
sub { get('/t') }
--- events
internal:
open SERVER GET /t
  open CLIENT GET
return ?
  close GET ERROR
close GET /t ERROR
user:
open SERVER GET /t
  open CLIENT GET
return 500
  close GET ERROR error=500
close GET /t ERROR error=500



=== TEST 31: subrequests that fail: their end is the one of their span
--- config
location /t { echo_location /dead; }
location /dead { proxy_pass http://127.0.0.1:$TEST_NGINX_PORT_REFUSING; }
--- client eval
sub { get('/t') }
--- events
both:
open SERVER GET /t
return 200
  open INTERNAL subrequest /dead
    open CLIENT GET
    close GET ERROR error=connect
  close subrequest /dead ERROR error=502
close GET /t
--- error_log
Connection refused



=== TEST 32: subrequests that an error page takes where they have a span, or none
--- config
proxy_intercept_errors on;
location /one {
    trace internal off;
    echo_location /with;
}
location /with { error_page 503 /quiet; proxy_pass http://two/?try=200,503; }
location /quiet { trace_subrequests off; echo x; }
location /two { echo_location /without; }
location /without {
    trace_subrequests off;
    trace_span x;
    error_page 503 /loud;
    proxy_pass http://two/?status=503;
}
location /loud { echo x; }
--- client eval
sub {
    get(qw(/one /two /one));
    is(main::counted($_)->{events_dropped}{queue_full}, 0, "$_: none is lost")
        for qw(internal user);

    # who tells of it in the beginning does not know that it will have no span
    my ($last) = grep { $_->[0]{attributes}{'span.name'} eq 'GET /one' }
        CORE::reverse(Events::requests(events_until(34)));
    is(CORE::join("\n", Events::draw(@$last), Events::complaints($last)),
        CORE::join("\n", 'open SERVER GET /one', 'return 200',
        '  open INTERNAL subrequest /with', ('    open CLIENT GET',
        '    close GET ERROR error=503') x 2,
        '  close subrequest /with ERROR error=503', 'close GET /one'), 'one');
}



=== TEST 33: span.return has the status that is sent
--- user_files
>>> files/a
some text
--- config
location /files/ { }
--- client eval
sub {
    get(['Range: bytes=0-3'], '/files/a');
    get(['Range: bytes=1000-'], '/files/a');
    get(['If-None-Match: *'], '/files/a');
}
--- events
both:
open SERVER GET /files/
return 206
close GET /files/
open SERVER GET /files/
return 416
close GET /files/
open SERVER GET /files/
return 304
close GET /files/



=== TEST 34: a location without a handler: access checks say whose it is
--- http
trace_routing $tenant;
server {
    listen unix:$TEST_NGINX_DIR/auth.sock;
    trace internal off; trace user off;
    location / { add_header x-tenant alice; return 204; }
}
--- user_files
>>> files/a
some text
--- config
location /files/ {
    set $tenant default;
    auth_request /auth;
    auth_request_set $tenant $upstream_http_x_tenant;
}
location = /auth {
    internal;
    trace_subrequests off;
    trace_upstream off;
    proxy_pass http://unix:$TEST_NGINX_DIR/auth.sock:/;
}
--- client eval
sub { get('/files/a') }
--- events
both:
open SERVER GET /files/
return 200
close GET /files/
--- check_events eval
sub {
    my %tenants = map { ($_->{headers}{'x-tenant'} => 1) }
        grep { exists $_->{headers}{'x-tenant'} } @_;
    is(CORE::join(' ', keys %tenants), 'alice', 'those of alice are hers');
}



=== TEST 35: whose a request is is looked up without a trace
--- trace
trace user on;
--- http
map $host $tenant { ~^(.*)$ $1; }
trace_routing $tenant;
--- config
location ~ ^/cap/(.*)$ {
    set $n $request_id;
    proxy_pass http://two/got-$1;
}
location ~ ^/told/(.*)$ { trace_events user; proxy_pass http://two/got-$1; }
--- client eval
sub {
    $::UPSTREAM->requests;
    get(qw(/cap/x /told/y));
    is(CORE::join(' ', map { $_->{line} =~ /(got\S*)/ } $::UPSTREAM->requests(2)),
        'got-x got-y', 'the captures are those of the location');
}
--- span_count: 4
--- events
user:
open SERVER GET ^/told/(.*)$
  open CLIENT GET
return 200
  close GET
close GET ^/told/(.*)$
--- check_events eval
sub {
    is(scalar(grep { $_->{headers}{'x-tenant'} ne 'localhost' } @_), 0,
        'routing');
}



=== TEST 36: who has lost a request is told its ends, and nothing else
--- http
map $host $tenant { default first; }
trace_routing $tenant;
proxy_intercept_errors on;
--- config
location /t { error_page 503 /second; proxy_pass http://two/; }
location /second {
    trace_routing second;
    trace_span secret;
    proxy_pass http://two/;
}
location /u { error_page 503 /nobodys; proxy_pass http://two/; }
location /nobodys { trace_routing $arg_nobody; proxy_pass http://two/; }
--- client eval
sub {
    get('/t?try=503,503,200');
    get('/u?try=503,503,200,200');
    events_until(34);

    my @told = grep { $_->[0]{attributes}{'span.pipeline'} eq 'user' }
        Events::requests(events_until(0));

    is(CORE::join("\n", map { Events::draw(@$_) } @told), 'open SERVER GET /t
  open CLIENT GET
  close GET ERROR error=503
  open CLIENT GET
  close GET ERROR error=503
close GET /t
open SERVER GET /u
  open CLIENT GET
  close GET ERROR error=503
  open CLIENT GET
  close GET ERROR error=503
close GET /u',
        'what is told');
    is(CORE::join("\n", map { Events::complaints($_) } @told), '', 'in order');
    is(main::counted('user')->{events_dropped}{queue_full}, 0, 'none is lost');
}

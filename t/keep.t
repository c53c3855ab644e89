# trace_keep: requests that were not to be recorded are exported after all, if
# their end says so; with ids that fit, and with nothing left behind if not.

use strict;
use warnings;
use JSON::PP;
use Wire;

our $T = '0af7651916cd43dd8448eb211c80319c';
our $P = 'b7ad6b7169203331';

# a trace that ratio=0.5 would record

our $YES = 'c' x 32;

# what has reached the upstream, as [flags, parent-id] and as whole headers

sub main::sent {
    return map { /\A00-.{32}-(.{16})-(..)\z/ ? [$2, $1] : [$_] }
        main::received('traceparent', @_);
}

sub main::received {
    my ($name, $n) = @_;

    return map { my $request = $_; map { $_->[1] }
                 grep { lc $_->[0] eq $name } @{$request->{headers}} }
        upstream()->requests($n);
}

# the counters of a pipeline, by a location that is not traced

sub main::status {
    my ($json) = get('/status') =~ /\r\n\r\n(\{.*\})/s;
    my $status = decode_json($json)->{$_[0] // 'internal'};
    my $dropped = 0;

    $dropped += $_ for values %{$status->{spans_dropped}};
    return "$status->{spans_recorded} recorded, $dropped dropped";
}

add_block_preprocessor(sub {
    my $block = shift;
    my $client = $block->client;

    $block->set_value('client', sub {
        upstream()->requests;
        $client ? $client->() : get('/t');
    });
    $block->set_value('http', <<'_EOC_' . ($block->http // ''));
map $status $failed { ~^[45] 1; default ""; }
map $request_time $slow { ~^0\. ""; default 1; }
trace internal ratio=0;
trace_keep $failed$slow;
upstream two {
    server $TEST_NGINX_UPSTREAM max_fails=0;
    server $TEST_NGINX_UPSTREAM max_fails=0;
}
proxy_next_upstream error http_503;
_EOC_
    $block->set_value('config', $block->config . <<'_EOC_');
location = /status { trace internal off; trace_status format=json; }
_EOC_
});

no_long_string();
run_tests();

__DATA__

=== TEST 1: a request that fails is kept, with what it sent to each upstream
--- config
location /t { proxy_pass http://two; }
--- client eval
sub { get('/t?try=503,500') }
--- tree
SERVER GET /t 500 error=500 flags=258 parent_span_id=- trace_state=-
  CLIENT GET 503 error=503
  CLIENT GET 500 error=500 resend=1
--- check_spans eval
sub {
    my @sent = main::sent(2);
    my @attempts = grep { $_->{kind} eq 'CLIENT' } @_;

    is_deeply([map { $_->[0] } @sent], ['02', '02'], 'flags sent');
    is_deeply([map { $_->[1] } @sent], [map { $_->{span_id} } @attempts],
              'ids sent');
    is(main::status(), '3 recorded, 0 dropped', 'counters');
}



=== TEST 2: a slow one is kept
--- config
location /t { proxy_pass http://two; }
--- client eval
sub { get('/t?delay=1.1') }
--- tree
SERVER GET /t 200 flags=258
  CLIENT GET 200



=== TEST 3: of others nothing is left, and nothing counted; their ids are sent
--- config
location /t { proxy_pass http://two; }
location /return { return 204; }
--- client eval
sub { get('/t?try=503,200', '/t?n=2', '/return') }
--- spans eval
[]
--- check_spans eval
sub {
    my @sent = main::sent(3);
    my %ids = map { $_->[1] => 1 } @sent;

    is_deeply([map { $_->[0] } @sent], [('02') x 3], 'flags sent');
    is(scalar keys %ids, 3, 'each attempt has its own id');
    is(main::status(), '0 recorded, 0 dropped', 'counters');
}



=== TEST 4: subrequests and mirrors of a kept request
--- config
location /t {
    auth_request /auth;
    mirror /mirror;
    proxy_pass http://two;
}
location = /auth {
    internal;
    proxy_pass http://$TEST_NGINX_UPSTREAM:/auth?status=204;
}
location = /mirror {
    internal;
    trace_keep off;
    proxy_pass http://$TEST_NGINX_UPSTREAM:/mirror;
}
--- client eval
sub { get('/t?status=404') }
--- tree
SERVER GET /t 404 flags=258
  INTERNAL subrequest /auth 204
    CLIENT GET 204
  CLIENT GET 404 error=404
  INTERNAL subrequest /mirror 404 may-outlive
    CLIENT GET 404 error=404
--- check_spans eval
sub {
    is_deeply([map { $_->[0] } main::sent(3)], [('02') x 3], 'flags sent');
}



=== TEST 5: subrequests of others leave nothing; a failed one is no failed request
--- config
location /t {
    mirror /mirror;
    proxy_pass http://two;
}
location = /mirror { internal; return 503; }
--- client eval
sub { get('/t') }
--- spans eval
[]
--- check_spans eval
sub { is(main::status(), '0 recorded, 0 dropped', 'counters') }



=== TEST 6: trace_upstream and trace_subrequests count for kept requests, too
--- config
trace_upstream off;
location /t { auth_request /auth; proxy_pass http://two; }
location = /auth { internal; proxy_pass http://two/auth?status=204; }
location /none { auth_request /no; proxy_pass http://127.0.0.1:1; }
location = /no {
    internal;
    trace_upstream both;
    trace_subrequests off;
    proxy_pass http://two/auth?status=403;
}
--- client eval
sub { get('/t?status=404', '/none') }
--- tree
SERVER GET /t 404 flags=258 sent=1
  INTERNAL subrequest /auth 204 sent=1
SERVER GET /none 403 flags=258
  CLIENT GET 403 error=403



=== TEST 7: a believed context goes on with ids of our own, not sampled
--- config
location /t { proxy_pass http://two; }
--- client eval
sub {
    get(["traceparent: 00-$::T-$::P-01", 'tracestate: a=1', 'tracestate: b=2'],
        '/t?try=503,500');
    get(["traceparent: cc-$::T-$::P-fe-x"], '/t?status=500');
}
--- tree
SERVER GET /t 500 error=500 flags=768 parent_span_id=b7ad6b7169203331 trace_id=0af7651916cd43dd8448eb211c80319c trace_state="a=1,b=2"
  CLIENT GET 503 error=503 trace_state="a=1,b=2"
  CLIENT GET 500 error=500 resend=1
SERVER GET /t 500 error=500 flags=770 parent_span_id=b7ad6b7169203331 trace_id=0af7651916cd43dd8448eb211c80319c trace_state=-
  CLIENT GET 500 error=500
--- check_spans eval
sub {
    is_deeply([map { $_->[0] } main::sent(3)], ['00', '00', '02'],
              'flags sent');
}



=== TEST 8: so it does where the request is not kept
--- config
location /t { proxy_pass http://two; }
location /off { trace_keep off; proxy_pass http://two; }
--- client eval
sub {
    my @headers = ("traceparent: 00-$::T-$::P-01", 'tracestate: a=1,,b=2');

    get(\@headers, '/t?try=503,200', '/off?status=500');
}
--- spans eval
[]
--- check_spans eval
sub {
    my @sent = main::sent(3);

    is($sent[$_][0], '00', "flags of attempt $_") for 0, 1;
    isnt($sent[$_][1], $::P, "its id of attempt $_") for 0, 1;
    isnt($sent[0][1], $sent[1][1], 'two ids');
    is_deeply($sent[2], ['01', $::P], 'transparent without trace_keep');
    is(main::status(), '0 recorded, 0 dropped', 'counters');
}



=== TEST 9: th leaves with the sampled flag, other members stay
--- config
location /t { proxy_pass http://two; }
--- client eval
sub {
    get(["traceparent: 00-$::T-$::P-01", 'tracestate: a=1,ot=k:1;th:8'],
        '/t?status=500');
}
--- tree
SERVER GET /t 500 error=500 flags=768 trace_state="ot=k:1,a=1"
  CLIENT GET 500 error=500 trace_state="ot=k:1,a=1"
--- check_spans eval
sub { is((::received('tracestate', 1))[0], 'ot=k:1,a=1', 'tracestate') }



=== TEST 10: whatever said no: parent, a ratio, a spent rate, a variable; not off
--- http
map $arg_v $variable { 1 1; default ""; }
--- config
trace_attribute internal n $arg_n;
location /parent { trace internal parent; return 404; }
location /ratio { trace internal ratio=0.5; return 404; }
location /rate { trace internal rate=1r/m; return 404; }
location /variable { trace internal $variable; return 404; }
location /both { trace internal $variable parent; return 404; }
location /on { trace internal on; return 404; }
location /off { trace internal off; return 404; }
location /unkept { trace internal off; return 404; }
--- client eval
sub {
    my ($yes, $no) = map { "traceparent: 00-$_-$::P-0" } $::YES, $::T;

    get('/parent?n=1', '/rate?n=2', '/rate?n=3', '/variable?n=4',
        '/variable?v=1&n=5', '/both?n=6', '/on?n=7', '/off?n=8');
    get(["${yes}0"], '/parent?n=9', '/ratio?n=10', '/variable?n=11',
        '/off?n=12', '/rate?n=13');
    get(["${no}1"], '/parent?n=14', '/ratio?n=15', '/both?n=16', '/off?n=17');
}
--- check_spans eval
sub {
    is_deeply({ map { $_->{attributes}{n} => sprintf '%x', $_->{flags} } @_ },
        { 1 => 102, 2 => 103, 3 => 102, 4 => 102, 5 => 103, 6 => 102,
          7 => 103, 9 => 300, 10 => 301, 11 => 300, 13 => 300, 14 => 301,
          15 => 300, 16 => 301 }, 'flags');
}
--- span_count: 14



=== TEST 11: the value is neither empty nor 0
--- http
map $arg_v $v { empty ""; default $arg_v; }
--- config
trace_keep $v;
trace_attribute internal v $v;
location /v/ { return 204; }
location /string/ { trace_keep "$arg_v$arg_w"; return 204; }
location /off { trace_keep off; return 404; }
location /unset { trace_keep $arg_none; return 404; }
--- client eval
sub {
    get('/v/?v=empty', '/v/?v=0', '/v/?v=1', '/v/?v=00', '/v/?v=off', '/v/?v=no',
        '/v/?v=-', '/string/', '/string/?v=0', '/string/?w=0', '/string/?v=1&w=2',
        '/string/?v=0&w=0', '/off', '/unset?v=1');
}
--- check_spans eval
sub {
    is_deeply([map { $_->{attributes}{'url.path'} . ' '
                     . $_->{attributes}{'url.query'} } @_],
        ['/v/ v=1', '/v/ v=00', '/v/ v=off', '/v/ v=no', '/v/ v=-',
         '/string/ v=1&w=2', '/string/ v=0&w=0'], 'kept');
    is(main::status(), '7 recorded, 0 dropped', 'counters');
}
--- span_count: 7



=== TEST 12: a yes is recorded once, whatever trace_keep says
--- config
trace internal on;
location /failed { proxy_pass http://two; }
location /off { trace_keep off; return 404; }
--- client eval
sub { get('/failed?status=500', '/failed', '/off') }
--- tree
SERVER GET /failed 500 error=500 flags=259
  CLIENT GET 500 error=500
SERVER GET /failed 200 flags=259
  CLIENT GET 200
SERVER GET /off 404 flags=259
--- check_spans eval
sub {
    is_deeply([map { $_->[0] } main::sent(2)], ['03', '03'], 'flags sent');
    is(main::status(), '5 recorded, 0 dropped', 'counters');
}



=== TEST 13: after a redirect the location that answers says whether to keep
--- config
location /kept { proxy_intercept_errors on; error_page 503 = /answer;
    proxy_pass http://$TEST_NGINX_UPSTREAM:/kept?status=503; }
location /answer { trace_keep $http_x_keep; proxy_pass http://two; }
location /named { proxy_intercept_errors on; error_page 503 = @named;
    proxy_pass http://$TEST_NGINX_UPSTREAM:/named?status=503; }
location @named { trace_keep off; proxy_pass http://two; }
location /files { try_files /nosuch /page; }
location /page { proxy_pass http://$TEST_NGINX_UPSTREAM:/page?status=404; }
--- client eval
sub {
    get(['X-Keep: 1'], '/kept');
    get(['X-Keep: 0'], '/kept', '/named', '/files');
}
--- tree
SERVER GET /answer 200 flags=258
  * redirect http.route=/answer http.response.status_code=-
  CLIENT GET 503 error=503
  CLIENT GET 200
SERVER GET /page 404 flags=258
  * redirect http.route=/page http.response.status_code=-
  CLIENT GET 404 error=404
--- check_spans eval
sub {
    is_deeply([map { $_->[0] } main::sent(7)], [('02') x 7], 'flags sent');
}



=== TEST 14: requests that end early
--- config
error_page 404 /404;
location /return { return 404; }
location = /404 { return 200 page; }
location /large { client_max_body_size 1; proxy_pass http://two; }
if ($arg_server) { return 403; }
--- client eval
sub {
    my $end = "HTTP/1.1\r\nHost: a\r\nConnection: close\r\n";

    like(talk("GET /bad HTTP/1.1\r\n\r\n"), qr/ 400 /, 'no Host');
    like(talk("GET /header $end" . "a b\0: c\r\n\r\n"), qr/ 400 /, 'a header');
    like(talk("POST /large $end" . "Content-Length: 10\r\n\r\n"), qr/ 413 /,
         'body');
    like(get('/return'), qr/ 404 /, 'return');
    like(get('/t?server=1'), qr/ 403 /, 'return of the server');
    like(get('/none'), qr/ 404 /, 'no file');
}
--- error_log
No such file or directory
--- check_spans eval
sub {
    is_deeply([map { sprintf '%s %d %x', $_->{attributes}{'url.path'} // '-',
                     $_->{attributes}{'http.response.status_code'},
                     $_->{flags} } @_],
        ['/bad 400 102', '/header 400 102', '/large 413 102',
         '/return 404 102', '/t 403 102', '/none 404 102'], 'kept');
}
--- span_count: 6



=== TEST 15: an upstream that cannot be reached, and a client that leaves
--- config
location /dead { proxy_pass http://127.0.0.1:1; }
location /t { proxy_pass http://two; }
--- client eval
sub {
    get('/dead');
    talk("GET /t?delay=2 HTTP/1.1\r\nHost: a\r\n\r\n", 0.15);
}
--- error_log
connect() failed
--- tree
SERVER GET /dead 502 error=502 flags=258
  CLIENT GET error=connect
SERVER GET /t error=client_closed flags=258
  CLIENT GET error=client_closed



=== TEST 16: beside the user pipeline, which is as it was
--- http
trace_context internal propagate header=x-op-traceparent;
trace user $http_x_tenant;
trace_routing $http_x_tenant;
--- config
location /t { proxy_pass http://two; }
--- client eval
sub {
    get(['X-Tenant: acme', "traceparent: 00-$::T-$::P-00", 'tracestate: a=1'],
        '/t?status=500', '/t');
}
--- tree
internal:
SERVER GET /t 500 error=500 flags=258
  CLIENT GET 500 error=500
user:
SERVER GET /t 500 error=500 flags=769 parent_span_id=b7ad6b7169203331 trace_state="a=1"
  CLIENT GET 500 error=500
SERVER GET /t 200 flags=769 parent_span_id=b7ad6b7169203331 trace_state="a=1"
  CLIENT GET 200
--- check_spans eval
sub {
    my ($user) = grep { exists $_->{headers}{'x-tenant'}
                        && $_->{kind} eq 'SERVER' } @_;
    my ($internal) = grep { !exists $_->{headers}{'x-tenant'}
                            && $_->{kind} eq 'SERVER' } @_;

    is_deeply([map { [@$_{qw(trace_id span_id)}] } @{$internal->{links}}],
              [[$::T, $user->{span_id}]], 'the link to the user span');
    is(scalar(grep { @{$_->{links}} } grep { $_ != $internal } @_), 0,
       'no other links');
    is(main::status('user'), '4 recorded, 0 dropped', 'counters');
}



=== TEST 17: a ratio records its share, and of the others those that fail are kept
--- config
trace internal ratio=0.5;
trace_attribute internal n $arg_n;
location /t { return 204; }
location /failed { return 500; }
--- client eval
sub {
    for my $n (1 .. 60) {
        my $id = sprintf('%016x', $n) . ($n % 2 ? 'c' : '4') x 16;

        get(["traceparent: 00-$id-$::P-01"],
            ($n % 3 ? '/t' : '/failed') . "?n=$n");
    }
}
--- check_spans eval
sub {
    is(CORE::join(' ', map { $_->{attributes}{n} . ($_->{flags} & 1 ? '' : '*') } @_),
       CORE::join(' ', map { $_ % 2 ? $_ : $_ % 3 ? () : "$_*" } 1 .. 60),
       'sampled, or kept*');
    is(scalar(grep { ($_->{trace_state} eq 'ot=th:8') != ($_->{flags} & 1) }
              @_), 0, 'th where a ratio has said yes');
}
--- span_count: 40



=== TEST 18: of more subrequests than may have spans, those of a kept request are lost
--- log_level: warn
--- config
default_type text/html;
location /t { ssi on; trace_keep $arg_keep; try_files /t.html =404; }
location /a { echo a; }
--- user_files eval
">>> t.html\n" . '<!--#include virtual="/a" -->' x 1100
--- client eval
sub {
    get('/t');
    is(main::status(), '0 recorded, 0 dropped', 'not kept');
    get('/t?keep=1');
}
--- tree eval
"SERVER GET /t 200 flags=258\n" . "  INTERNAL subrequest /a 200\n" x 1000
--- check_spans eval
sub { is(main::status(), '1101 recorded, 100 dropped', 'kept') }



=== TEST 19: nothing is kept where it was decided without trace_keep
--- config
location /t {
    trace_keep off;
    proxy_intercept_errors on;
    error_page 503 = /answer;
    proxy_pass http://$TEST_NGINX_UPSTREAM:/t?status=503;
}
location /answer { proxy_pass http://$TEST_NGINX_UPSTREAM:/answer?status=500; }
--- client eval
sub {
    like(get('/t'), qr/ 500 /, 'a new trace');
    like(get(["traceparent: 00-$::T-$::P-01"], '/t'), qr/ 500 /,
         'one that goes on');
}
--- spans eval
[]
--- check_spans eval
sub {
    my @sent = main::sent(4);

    is_deeply($sent[1], $sent[0], 'fresh, and the same');
    is($sent[0][0], '02', 'not sampled');
    is_deeply([@sent[2, 3]], [(['01', $::P]) x 2], 'transparent');
}



=== TEST 20: a map that was read before the end is read anew if it is volatile
--- http
map $status $once { ~^5 1; default ""; }
map $status $anew { volatile; ~^5 1; default ""; }
--- config
location /once { trace_keep $once; return 503; }
location /once/early { trace_keep $once; set $early $once; return 503; }
location /anew { trace_keep $anew; return 503; }
location /anew/early { trace_keep $anew; set $early $anew; return 503; }
--- client eval
sub { get('/once', '/once/early', '/anew', '/anew/early') }
--- spans eval
[map { { name => "GET $_" } } qw(/once /anew /anew/early)]

# The wall: both pipelines on one request, whatever happens to it, and nothing
# of the operator's gets to users, to clients, or to upstreams that are not
# told, in spans or in what is announced of them; the spans of one tenant go
# nowhere with those of another.
#
# Names of the inside have INTERNAL-MARKER in them, which Leak.pm finds wherever
# it gets out.

use strict;
use warnings;
use Delivery ();
use Time::HiRes qw(sleep);
use Wire;

our $DIR = $ENV{TEST_NGINX_DIR};
our $OTHER = 'traceparent: 00-0af7651916cd43dd8448eb211c80319c-'
    . 'b7ad6b7169203331-01';
our $MINE = 'x-op-traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-'
    . '00f067aa0ba902b7-01';

our $UPSTREAM = Upstream->new(protocol => 'http', ports => 1,
    socket => "$DIR/INTERNAL-MARKER.sock");
$ENV{TEST_NGINX_INSIDE} = "unix:$DIR/INTERNAL-MARKER.sock";
$ENV{TEST_NGINX_PORT_A} = $UPSTREAM->{ports}[0];
$ENV{TEST_NGINX_PORT_REFUSING} = Upstream::unused_port();

END {
    my $status = $?;
    $UPSTREAM->stop;
    $? = $status;
}

# the ids of what failed to connect, in the error log

sub logged {
    open my $fh, '<', "$ENV{TEST_NGINX_SERVROOT}/logs/error.log" or die $!;
    return map { /, (trace_id: \w+, span_id: \w+)$/ } grep { /connect\(\)/ }
        <$fh>;
}

# which of our headers each of |$n| requests had, as "PATH internal user"; the
# internal ones have any prefix

sub told {
    my ($n, $protocol) = @_;

    return join '', sort map {
        my ($path) = $_->{line} =~ m{ (/\w*)};
        my %names = map { (lc($_->[0]) =~ tr/_/-/r =~ s/\Ahttp-//r) => 1 }
            @{$_->{headers}};

        join(' ', $path, ('internal') x (grep { /-traceparent/ } keys %names),
             $names{'x-op-tracestate'} ? 'state' : (),
             $names{traceparent} ? 'user' : ()) . "\n";
    } ($protocol ? upstream($protocol) : $UPSTREAM)->requests($n);
}

# where a request can go: only /told, by its name or by a variable, is told

our $PLACES = <<"_EOC_";
location /told { proxy_pass http://told; }
location /other { proxy_pass http://other; }
location /socket { proxy_pass http://$ENV{TEST_NGINX_INSIDE}; }
location /address { proxy_pass http://127.0.0.1:$ENV{TEST_NGINX_PORT_A}; }
location /named { set \$to told; proxy_pass http://\$to; }
location /another { set \$to other; proxy_pass http://\$to; }
location /computed {
    set \$to 127.0.0.1:$ENV{TEST_NGINX_PORT_A};
    proxy_pass http://\$to;
}
_EOC_

our @PLACES = $PLACES =~ m{location (/\w+)}g;

# the decisions, each in a server on a socket of this name

our %DECISION = (recorded => 'on', unsampled => 'ratio=0', off => 'off',
    variable => '$arg_no', kept => 'ratio=0; trace_keep $host',
    neither => 'off; trace user off', none => 'ratio=0; trace user off');

$ENV{TEST_NGINX_SERVERS} = join '', map { <<"_EOC_" } sort keys %DECISION;
server {
    listen unix:$DIR/$_.sock;
    trace internal $DECISION{$_};
    trace_context internal to=told;
    $PLACES
}
_EOC_

# sends two requests to each place, and says what the upstreams were told

sub visit {
    my ($decision, @headers) = @_;

    exchange(request($_, @headers), "unix:$DIR/$decision.sock")
        for map { ($_, $_) } @PLACES;
    return told(2 * @PLACES);
}

sub expected {
    my ($told, $others) = @_;

    return join '', sort map {
        join(' ', $_, (m{^/(told|named)$} ? $told : $others) || ()) . "\n"
    } @PLACES, @PLACES;
}

add_block_preprocessor(sub {
    my $block = shift;
    my $http = $block->http || '';
    my $client = $block->client;

    # what the block before has left behind is not looked at

    $block->set_value('client', sub {
        connection();
        spans_until(0);
        $_->requests for $UPSTREAM, map { upstream($_) }
            qw(fastcgi uwsgi scgi);
        $client->();
    }) if $client;

    $http .= 'trace_routing acme;' if $http !~ /trace_routing/;
    $block->set_value('http', <<'_EOC_' . $http);
trace internal on;
trace user on;
trace_events both;
trace_context internal propagate header=x-op-traceparent;
trace_trusted internal all;
trace_service_name internal INTERNAL-MARKER-service;
trace_attribute internal INTERNAL-MARKER-attribute INTERNAL-MARKER-value;
proxy_set_header Host $host;

upstream INTERNAL-MARKER {
    server 127.0.0.1:$TEST_NGINX_PORT_REFUSING;
    server 127.0.0.1:$TEST_NGINX_PORT_A;
    server $TEST_NGINX_INSIDE;
}
_EOC_
});

no_long_string();
run_tests();

sub kill_worker {
    my ($worker) = $_[0]->workers;

    return kill 'KILL', $worker;
}

sub reload { $_[0]->reload; return 0 }

Delivery::scene('routings do not mix, whatever the receiver does', sub {
    my $dir = shift;

    routings($dir, '503, and a kill', '503', \&kill_worker);
    routings($dir, 'reset, and a kill', 'reset', \&kill_worker);
    routings($dir, 'half an answer, and a reload', 'half', \&reload);
    routings($dir, 'slow, and a reload', 'ok', \&reload);
    routings($dir, 'refused', 'ok', sub {
        my ($nginx, $receiver) = @_;

        $receiver->stop;
        sleep 0.3;
        $receiver->start;
        return 0;
    });
});

# /r/N; is of tenant N mod 10

sub routings {
    my ($dir, $name, $how, $disturb) = @_;
    my $internal = Delivery::receiver($dir);
    my $receiver = Receiver->new(socket => "$dir/user.sock", ids => 1,
        whole => 1, delay => 0.01, answer => sub {
            my ($socket, $n) = @_;

            return Receiver::ok($socket) if $how eq 'ok' || $n % 3;
            return Receiver::status($socket, 503) if $how eq '503';
            print $socket "HTTP/1.1 200 O" if $how eq 'half';
            Upstream::reset_connection($socket) if $how eq 'reset';
            return 0;
        });
    my $nginx = Delivery::nginx($dir, 'interval 50ms;',
        http => 'map $uri $tenant { "~(\d);" t$1; }'
            . Delivery::exporter($dir, 'interval 50ms; routing_header x-tenant;'
                . 'connections 4; batch_size 50;', 'user',
                "unix:$dir/user.sock"),
        server => 'location / {
                trace internal on;
                trace_context internal propagate header=x-op-traceparent;
                trace user on;
                trace_routing $tenant;
                return 204;
            }
            location = /status { trace_status format=json; }')->start;
    my $load = Delivery::clients($nginx, rate => 1500, connections => 8);

    sleep 0.3;
    my $kills = $disturb->($nginx, $receiver);
    sleep 0.4;

    Delivery::delivered($receiver, $load->stop, more => 1, kills => $kills);

    my @mixed = grep {
        my $tenant = $_->{tenant};
        grep { "t" . $_ % 10 ne $tenant } split /,/, $_->{ids};
    } $receiver->batches;
    my %tenants = map { $_->{tenant} => 1 } $receiver->batches;

    Test::More::is(scalar @mixed, 0, "$name: no request with two routings");
    Test::More::is(scalar keys %tenants, 10, "$name: all have spans");
    Test::More::cmp_ok($internal->spans, '>', 0, "$name: the operator's");
    Test::More::is(scalar(grep { $_->{tenant} ne '-' } $internal->batches), 0,
        "$name: none of those has one");
    Test::More::cmp_ok(Delivery::status($nginx, 'user')->{export_retries}, '>',
        0, "$name: some were sent again") if $name !~ /slow/;
}

__DATA__

=== TEST 1: retries, subrequests, redirects, a cache: users see one hop
--- http
proxy_cache_path $TEST_NGINX_DIR/cache keys_zone=INTERNAL-MARKER-zone:1m;
--- config
location /retry {
    proxy_next_upstream error http_502;
    proxy_pass http://INTERNAL-MARKER;
}
location /auth {
    auth_request /INTERNAL-MARKER-auth;
    mirror /INTERNAL-MARKER-mirror;
    proxy_pass http://$TEST_NGINX_INSIDE;
}
location = /INTERNAL-MARKER-auth {
    internal;
    proxy_pass http://$TEST_NGINX_INSIDE:/?status=204;
}
location = /INTERNAL-MARKER-mirror {
    internal;
    proxy_pass http://$TEST_NGINX_INSIDE:/mirrored?a=;
}
location /failed {
    proxy_intercept_errors on;
    error_page 503 /INTERNAL-MARKER-error;
    proxy_pass http://$TEST_NGINX_INSIDE:/?status=503&a=;
}
location = /INTERNAL-MARKER-error {
    internal;
    error_page 404 @INTERNAL-MARKER;
    return 404;
}
location @INTERNAL-MARKER {
    rewrite ^ /spare break;
    proxy_pass http://$TEST_NGINX_INSIDE;
}
location /accel {
    proxy_pass http://$TEST_NGINX_INSIDE:/?redirect=/INTERNAL%2DMARKER/page&a=;
}
location /INTERNAL-MARKER/ { internal; return 200 "page\n"; }
location /cached {
    proxy_cache INTERNAL-MARKER-zone;
    proxy_pass http://$TEST_NGINX_INSIDE:/?age=60&a=;
}
recursive_error_pages on;
--- client eval
sub { get('/retry', '/auth', '/failed', '/accel', '/cached', '/cached') }
--- tree
internal:
SERVER GET /retry 200
  CLIENT GET error=connect nginx.upstream.name=INTERNAL-MARKER
  CLIENT GET 200 resend=1
SERVER GET /auth 200
  INTERNAL subrequest /INTERNAL-MARKER-auth 204
    CLIENT GET 204
  CLIENT GET 200 network.peer.address=$TEST_NGINX_DIR/INTERNAL-MARKER.sock
  INTERNAL subrequest /INTERNAL-MARKER-mirror 200 may-outlive
    CLIENT GET 200
SERVER GET @INTERNAL-MARKER 404
  * redirect http.route=/INTERNAL-MARKER-error url.path=/INTERNAL-MARKER-error
  * redirect http.route=@INTERNAL-MARKER
  CLIENT GET 503 error=503
  CLIENT GET 200
SERVER GET /INTERNAL-MARKER/ 200
  * redirect http.route=/INTERNAL-MARKER/ url.path=/INTERNAL-MARKER/page
  CLIENT GET 200
SERVER GET /cached 200 nginx.cache.status=MISS
  CLIENT GET 200
SERVER GET /cached 200 nginx.cache.status=HIT
user:
SERVER GET /retry 200
  CLIENT GET error=connect nginx.upstream.name=-
  CLIENT GET 200 resend=1
SERVER GET /auth 200
  INTERNAL subrequest 204 http.route=- url.path=-
    CLIENT GET 204
  CLIENT GET 200 network.peer.address=-
  INTERNAL subrequest 200 http.route=- url.path=- may-outlive
    CLIENT GET 200
SERVER GET 404 http.route=-
  * redirect http.route=- url.path=-
  * redirect http.route=- url.path=-
  CLIENT GET 503 error=503
  CLIENT GET 200
SERVER GET 200 http.route=-
  * redirect http.route=- url.path=-
  CLIENT GET 200
SERVER GET /cached 200 nginx.cache.status=-
  CLIENT GET 200
SERVER GET /cached 200 nginx.cache.status=-
--- error_log
Connection refused



=== TEST 2: all default attributes: users see addresses, not internal names
--- http
trace_default_attributes user all;
upstream app { server 127.0.0.1:$TEST_NGINX_PORT_A; }
--- config
location /t {
    auth_request /inside/auth;
    proxy_intercept_errors on;
    error_page 503 /inside/error;
    proxy_pass http://app/?status=503&a=;
}
location ~ ^/inside/(auth|INTERNAL-MARKER) {
    internal;
    proxy_pass http://app;
}
location ~ ^/inside/(error|INTERNAL-MARKER) {
    internal;
    error_page 404 @INTERNAL-MARKER;
    return 404;
}
location @INTERNAL-MARKER { proxy_pass http://app; }
recursive_error_pages on;
--- client eval
sub {
    get('/t');
    my @spans = grep { exists $_->{headers}{'x-tenant'} } spans_until(10);
    my ($request) = grep { $_->{kind} eq 'SERVER' } @spans;
    my @attempts = grep { $_->{kind} eq 'CLIENT' } @spans;

    is($request->{name}, 'GET', 'name');
    is($request->{attributes}{'http.route'}, undef, 'route');
    is_deeply([map { $_->{attributes}{'http.route'} } @{$request->{events}}],
        [undef, undef], 'routes of redirects');
    is($request->{attributes}{'client.address'}, '127.0.0.1', 'address');
    is_deeply([map { $_->{attributes}{'nginx.upstream.name'} } @attempts],
        [('app') x 3], 'upstreams');
}



=== TEST 3: the resource, the service and attributes are the operator's
--- http
trace_resource host.name INTERNAL-MARKER-host;
trace_span_name internal INTERNAL-MARKER-span;
--- config
location /t { return 204; }
--- client eval
sub { get('/t') }
--- spans eval
[{ name => 'INTERNAL-MARKER-span', resource => {
       'service.name' => 'INTERNAL-MARKER-service',
       'host.name' => 'INTERNAL-MARKER-host' },
   attributes => { 'INTERNAL-MARKER-attribute' => 'INTERNAL-MARKER-value' } },
 { name => 'GET /t', resource => {
       'service.name' => 'unknown_service:nginx', 'host.name' => undef,
       'INTERNAL-MARKER-name' => undef } }]



=== TEST 4: responses tell ids of one pipeline, the error log of the other
--- config
trace_error_log internal;
location /traceresponse {
    trace_response_header traceresponse user;
    proxy_pass http://127.0.0.1:$TEST_NGINX_PORT_REFUSING;
}
location /timing {
    trace_response_header server-timing;
    proxy_pass http://127.0.0.1:$TEST_NGINX_PORT_REFUSING;
}
--- client eval
sub { $::got = get('/traceresponse', '/timing') }
--- span_count: 4
--- check_spans eval
sub {
    my @user = grep { exists $_->{headers}{'x-tenant'} } @_;
    my @of = map { main::traceparent_of($_) } @user;

    like($::got, qr/^traceresponse: $of[0]\r$/m, 'traceresponse');
    like($::got, qr/^Server-Timing: trace;desc="$of[1]"\r$/m, 'Server-Timing');
    my @internal = grep { !exists $_->{headers}{'x-tenant'} } @_;

    is_deeply([main::logged()], [map {
        "trace_id: $_->{trace_id}, span_id: $_->{span_id}" } @internal], 'log');
}
--- error_log
Connection refused



=== TEST 5: the routing is the one of the end, for all spans of the request
--- http
trace_routing $tenant;
--- config
set $tenant early;
location /t {
    proxy_intercept_errors on;
    error_page 503 = @last;
    proxy_pass http://$TEST_NGINX_INSIDE:/?status=503&a=;
}
location @last {
    auth_request /auth;
    auth_request_set $tenant $upstream_status;
    proxy_pass http://$TEST_NGINX_INSIDE;
}
location = /auth { internal; proxy_pass http://$TEST_NGINX_INSIDE:/ok?a=; }
--- client eval
sub {
    get('/t');
    is_deeply([map { $_->{headers}{'x-tenant'} } spans_until(10)],
        [(undef) x 5, (200) x 5], 'x-tenant');
}



=== TEST 6: only an upstream that is named gets headers, whatever was decided
--- http
upstream told { server $TEST_NGINX_INSIDE; }
upstream other { server $TEST_NGINX_INSIDE; }
$TEST_NGINX_SERVERS
--- config
--- client eval
sub {
    my @inbound = ($::OTHER, $::MINE, 'x-op-tracestate: op=1');
    my %new = ((map { $_ => ['internal user', 'user'] } keys %::DECISION),
        (map { $_ => ['user', 'user'] } qw(off variable)),
        neither => ['', ''], none => ['internal', '']);

    # the first request of a worker, too
    ::exchange(::request('/other', @inbound), "unix:$::DIR/recorded.sock");
    is(::told(1), "/other user\n", 'first');

    for my $decision (sort keys %::DECISION) {
        is(::visit($decision, @inbound),
            ::expected('internal state user', 'user'), $decision) for 1, 2;
        is(::visit($decision), ::expected(@{$new{$decision}}),
            "$decision, new");
    }
}



=== TEST 7: each try, subrequest and redirect, by where it goes
--- http
proxy_next_upstream http_502;
upstream told {
    server $TEST_NGINX_INSIDE;
    server 127.0.0.1:$TEST_NGINX_PORT_A;
}
upstream other {
    server $TEST_NGINX_INSIDE;
    server 127.0.0.1:$TEST_NGINX_PORT_A;
}
--- config
trace_context internal to=told;
location = /sub_told { internal; proxy_pass http://told/sub?a=; }
location = /sub_other { internal; proxy_pass http://other/part?a=; }
location /told { proxy_pass http://told; }
location /other { proxy_pass http://other; }
location /a {
    auth_request /sub_told;
    mirror /sub_other;
    proxy_pass http://other;
}
location /b {
    auth_request /sub_other;
    mirror /sub_told;
    proxy_pass http://told;
}
location /c { error_page 503 = @told; proxy_pass http://other; }
location /d { error_page 503 = @other; proxy_pass http://told; }
location /e { proxy_pass http://told; }
location /f { proxy_pass http://other; }
location @told { proxy_pass http://told; }
location @other { proxy_pass http://other; }
proxy_intercept_errors on;
--- client eval
sub {
    my $of = sub {
        my ($n, $path) = @_;
        get([$::MINE], $path);
        return ::told($n);
    };

    is($of->(2, '/told?try=502,200'), "/told internal user\n" x 2, 'retry');
    is($of->(2, '/other?try=502,200'), "/other user\n" x 2, 'retry, not told');
    is($of->(3, '/a'), "/a user\n/part user\n/sub internal user\n",
        'a part is told');
    is($of->(3, '/b'), "/b internal user\n/part user\n/sub internal user\n",
        'the whole is told');
    is($of->(2, '/c?try=503,200'), "/c internal user\n/c user\n",
        'redirect to who is told');
    is($of->(2, '/d?try=503,200'), "/d internal user\n/d user\n",
        'redirect to who is not');
    is($of->(2, '/e?redirect=/other'), "/e internal user\n/other user\n",
        'X-Accel-Redirect to who is not');
    is($of->(2, '/f?redirect=/told'), "/f user\n/told internal user\n",
        'X-Accel-Redirect to who is told');
}



=== TEST 8: several names, all, and each pipeline by itself
--- http
upstream told { server $TEST_NGINX_INSIDE; }
upstream other { server $TEST_NGINX_INSIDE; }
upstream third { server $TEST_NGINX_INSIDE; }
--- config
trace_context internal to=told;
trace_context user to=other;
location /told { proxy_pass http://told; }
location /other { proxy_pass http://other; }
location /third { proxy_pass http://third; }
location /list {
    trace_context internal to=told,third;
    proxy_pass http://third;
}
location /all {
    trace_context internal to=all;
    trace_context user to=all;
    proxy_pass http://$TEST_NGINX_INSIDE;
}
--- client eval
sub {
    get(['tracestate: a=1', $::OTHER, $::MINE],
        qw(/told /other /third /list /all));
    is(::told(5), "/all internal user\n/list internal\n/other user\n/third\n"
        . "/told internal\n", 'headers');
    is(scalar(my @spans = spans_until(20)), 20, 'all are recorded');
}



=== TEST 9: FastCGI, uwsgi, SCGI and gRPC
--- http
upstream fcgi_told { server unix:$TEST_NGINX_DIR/fastcgi.sock; }
upstream fcgi_other { server unix:$TEST_NGINX_DIR/fastcgi.sock; }
upstream uwsgi_told { server unix:$TEST_NGINX_DIR/uwsgi.sock; }
upstream uwsgi_other { server unix:$TEST_NGINX_DIR/uwsgi.sock; }
upstream scgi_told { server unix:$TEST_NGINX_DIR/scgi.sock; }
upstream scgi_other { server unix:$TEST_NGINX_DIR/scgi.sock; }
upstream grpc_told { server unix:$TEST_NGINX_DIR/h2.sock; }
upstream grpc_other { server unix:$TEST_NGINX_DIR/h2.sock; }
map $http_x_op_traceparent $told { "" none; default told; }
server {
    listen unix:$TEST_NGINX_DIR/h2.sock http2;
    trace internal off;
    trace user off;
    location / { return 200 "$uri $told\n"; }
}
fastcgi_param REQUEST_METHOD $request_method;
fastcgi_param REQUEST_URI $request_uri;
uwsgi_param REQUEST_METHOD $request_method;
uwsgi_param REQUEST_URI $request_uri;
scgi_param SCGI 1;
scgi_param CONTENT_LENGTH 0;
scgi_param REQUEST_METHOD $request_method;
scgi_param REQUEST_URI $request_uri;
--- config
trace_context internal to=fcgi_told,uwsgi_told,scgi_told,grpc_told;
location /fastcgi_told { fastcgi_pass fcgi_told; }
location /fastcgi_other { fastcgi_pass fcgi_other; }
location /uwsgi_told { uwsgi_pass uwsgi_told; }
location /uwsgi_other { uwsgi_pass uwsgi_other; }
location /scgi_told { scgi_pass scgi_told; }
location /scgi_other { scgi_pass scgi_other; }
location /grpc_told { grpc_pass grpc://grpc_told; }
location /grpc_other { grpc_pass grpc://grpc_other; }
--- client eval
sub {
    for my $protocol (qw(fastcgi uwsgi scgi)) {
        get([$::MINE], "/${protocol}_other", "/${protocol}_told");
        is(::told(2, $protocol), "/${protocol}_other user\n"
            . "/${protocol}_told internal user\n", $protocol);
    }

    like(get([$::MINE], '/grpc_other', '/grpc_told'),
        qr/grpc_other none\n.*grpc_told told\n/s, 'gRPC');
}



=== TEST 10: what is written for one part of a request leaves with that alone
--- config
proxy_intercept_errors on;
location /ssi {
    ssi on;
    trace_context internal propagate header=x-op-traceparent;
    proxy_pass http://$TEST_NGINX_INSIDE;
}
location /same {
    trace_context internal propagate header=x-op-traceparent;
    proxy_pass http://$TEST_NGINX_INSIDE;
}
location /two {
    trace_context internal propagate header=x-two-traceparent;
    mirror /three;
    error_page 503 = @four;
    post_action /none;
    proxy_pass http://$TEST_NGINX_INSIDE;
}
location = /three {
    trace_context internal propagate header=x-three-traceparent;
    proxy_pass http://$TEST_NGINX_INSIDE:/three?a=;
}
location @four {
    trace_context internal propagate header=x-four-traceparent;
    proxy_pass http://$TEST_NGINX_INSIDE;
}
location = /none {
    trace_context internal ignore;
    proxy_pass http://$TEST_NGINX_INSIDE:/none?a=;
}
--- client eval
sub {
    get('/ssi?body=' . CORE::join '', map {
        qq{<!--%23include%20virtual="/$_"%20wait="yes"-->} } qw(same none));
    is(::told(3), "/none user\n/same internal user\n/ssi internal user\n",
        'subrequests');
    get('/two');
    is(::told(3), "/none user\n/three internal user\n/two internal user\n",
        'a mirror, and an action behind');
    get('/two?try=503,200');
    is(::told(3), "/three internal user\n" . "/two internal user\n" x 2,
        'a mirror, and a redirect');
}

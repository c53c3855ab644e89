# Every try of an upstream leaves a span, in each pipeline, and sends the id of
# that span: whatever lets it fail, whoever chooses the next server.

use strict;
use warnings;
use IO::Socket::INET;
use IO::Socket::UNIX;
use TraceTest;
use Upstream;

our $DIR = $ENV{TEST_NGINX_DIR};

# three ports and a Unix socket of one server

our $UPSTREAM = Upstream->new(protocol => 'http', ports => 3,
    socket => "$DIR/http.sock");

@ENV{qw(TEST_NGINX_PORT_A TEST_NGINX_PORT_B TEST_NGINX_PORT_C)}
    = @{$UPSTREAM->{ports}};
$ENV{"TEST_NGINX_$_"} = '127.0.0.1:' . $ENV{"TEST_NGINX_PORT_$_"}
    for qw(A B C);
$ENV{TEST_NGINX_PORT_REFUSING} = Upstream::unused_port();
$ENV{TEST_NGINX_REFUSING} = "127.0.0.1:$ENV{TEST_NGINX_PORT_REFUSING}";
$ENV{TEST_NGINX_FULL} = '127.0.0.1:' . Upstream::full_port();
$ENV{TEST_NGINX_SILENT} = '127.0.0.1:' . Upstream::silent_port();

# a socket that nobody listens on

my $refusing = IO::Socket::UNIX->new(Local => "$DIR/refusing.sock",
    Type => SOCK_STREAM) or die "no socket: $!";

# a resolver that knows one name, which has an address twice

my $resolver = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Proto => 'udp')
    or die "no port: $!";
$ENV{TEST_NGINX_RESOLVER} = '127.0.0.1:' . $resolver->sockport;

my $resolver_pid = fork() // die "fork: $!";

if ($resolver_pid == 0) {
    while (my $peer = $resolver->recv(my $query, 512)) {
        my $name = substr $query, 12;
        my $type = unpack 'n', substr $name, index($name, "\0") + 1;
        my $n = $type == 1 ? 2 : 0;             # A

        $resolver->send(substr($query, 0, 2)
            . pack('nnnnn', 0x8180, 1, $n, 0, 0)
            . substr($name, 0, index($name, "\0") + 5)
            . pack('nnnNnC4', 0xc00c, 1, 1, 60, 4, 127, 0, 0, 1) x $n, 0,
            $peer);
    }

    Upstream::leave();
}

system("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
    . " -days 1 -subj /CN=localhost -keyout $DIR/cert.key -out $DIR/cert.pem"
    . " 2> $DIR/openssl.log") == 0 or die 'openssl';

END {
    my $status = $?;

    if ($resolver_pid) {
        kill 'TERM', $resolver_pid;
        waitpid $resolver_pid, 0;
        $UPSTREAM->stop;
    }

    $? = $status;
}

# a request without more than it needs

sub request {
    my ($line, $body, @headers) = @_;

    return join "\r\n", "$line HTTP/1.1", 'Host: a', 'Connection: close',
        defined $body ? 'Content-Length: ' . length $body : (), @headers, '',
        $body // '';
}

# what the server has got of a header, in each request

sub received {
    my ($n, $name) = @_;

    return map { my $request = $_; map { $_->[1] }
                 grep { lc $_->[0] eq $name } @{$request->{headers}} }
        $UPSTREAM->requests($n);
}

# both pipelines record, and two servers are never given up

add_block_preprocessor(sub {
    my $block = shift;
    my $client = $block->client;

    $block->set_value('client', sub { $UPSTREAM->requests; $client->() });
    $block->set_value('http', <<'_EOC_' . ($block->http // ''));
    trace internal on;
    trace user on;
    trace_context internal propagate header=x-op-traceparent;
    trace_routing acme;
    upstream two {
        server $TEST_NGINX_A max_fails=0;
        server $TEST_NGINX_B max_fails=0;
    }
_EOC_
});

no_long_string();
run_tests();

__DATA__

=== TEST 1: one try, and all that is told of it
--- config
location /t { proxy_pass http://$TEST_NGINX_A/x; }
--- client eval
sub { get('/t?a=1') }
--- tree
both:
SERVER GET /t 200 nginx.cache.status=-
  CLIENT GET 200 events=connect,first_byte,last_byte http.request.method=GET url.full=http://127.0.0.1:$TEST_NGINX_PORT_A/x?a=1 server.address=127.0.0.1 server.port=$TEST_NGINX_PORT_A network.peer.address=127.0.0.1 network.peer.port=$TEST_NGINX_PORT_A network.protocol.name=- nginx.upstream.name=- reused=false trace_state=-



=== TEST 2: one try of a server in an upstream block
--- http
upstream one { server $TEST_NGINX_C; }
--- config
location /t {
    proxy_http_version 1.1;
    proxy_pass http://one;
}
--- client eval
sub { get('/t?a=1') }
--- tree
both:
SERVER GET /t 200
  CLIENT GET 200 url.full=http://one/t?a=1 server.address=one network.peer.address=127.0.0.1 network.peer.port=$TEST_NGINX_PORT_C network.protocol.version=1.1 nginx.upstream.name=one



=== TEST 3: one try of a Unix socket
--- http
upstream sock { server unix:$TEST_NGINX_DIR/http.sock; }
--- config
location /t { proxy_pass http://sock; }
--- client eval
sub { get('/t') }
--- tree
both:
SERVER GET /t 200
  CLIENT GET 200 network.peer.address=$TEST_NGINX_DIR/http.sock network.peer.port=- server.address=sock server.port=-



=== TEST 4: the name is the method that is sent
--- config
location /t { proxy_pass http://two; }
location /m { proxy_method DELETE; proxy_pass http://two; }
--- client eval
sub {
    talk(::request('HEAD /t'));
    talk(::request('POST /t', 'hello'));
    talk(::request('FOO /t'));
    talk(::request('GET /m'));
}
--- tree
both:
SERVER HEAD /t 200
  CLIENT HEAD 200 http.request.method=HEAD events=connect,first_byte,last_byte
SERVER POST /t 200
  CLIENT POST 200 http.request.method=POST
SERVER HTTP /t 200
  CLIENT HTTP 200 http.request.method=_OTHER
SERVER GET /m 200
  CLIENT DELETE 200 http.request.method=DELETE



=== TEST 5: the context of the client goes on in each try
--- config
location /t {
    proxy_next_upstream http_502;
    proxy_pass http://two;
}
--- client eval
sub {
    get(['traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
         'tracestate: a=1'], '/t?try=502,200');
    is_deeply([::received(2, 'tracestate')], ['a=1', 'a=1'], 'tracestate');
}
--- tree
internal:
SERVER GET /t 200 parent_span_id=- flags=259
  CLIENT GET 502 error=502 flags=259
  CLIENT GET 200 resend=1 flags=259
user:
SERVER GET /t 200 parent_span_id=b7ad6b7169203331 flags=769 trace_state=a=1
  CLIENT GET 502 error=502 trace_id=0af7651916cd43dd8448eb211c80319c flags=257
  CLIENT GET 200 resend=1 trace_id=0af7651916cd43dd8448eb211c80319c flags=257



=== TEST 6: the statuses that let nginx try again
--- config
location /403 { proxy_next_upstream http_403; proxy_pass http://two; }
location /404 { proxy_next_upstream http_404; proxy_pass http://two; }
location /429 { proxy_next_upstream http_429; proxy_pass http://two; }
location /500 { proxy_next_upstream http_500; proxy_pass http://two; }
location /502 { proxy_next_upstream http_502; proxy_pass http://two; }
location /503 { proxy_next_upstream http_503; proxy_pass http://two; }
location /504 { proxy_next_upstream http_504; proxy_pass http://two; }
--- client eval
sub { get(map { "/$_?try=$_,200" } qw(403 404 429 500 502 503 504)) }
--- tree eval
CORE::join '', "both:\n", map { <<"_EOC_" } qw(403 404 429 500 502 503 504)
SERVER GET /$_ 200
  CLIENT GET $_ error=$_ events=connect,first_byte
  CLIENT GET 200 resend=1 events=connect,first_byte,last_byte
_EOC_



=== TEST 7: a status that is passed on, whatever it is
--- config
location /t { proxy_pass http://two; }
--- client eval
sub { get(map { "/t?status=$_" } qw(204 304 404 500)) }
--- tree
both:
SERVER GET /t 204
  CLIENT GET 204 events=connect,first_byte,last_byte
SERVER GET /t 304
  CLIENT GET 304 events=connect,first_byte,last_byte
SERVER GET /t 404
  CLIENT GET 404 error=404 events=connect,first_byte,last_byte
SERVER GET /t 500 error=500
  CLIENT GET 500 error=500 events=connect,first_byte,last_byte



=== TEST 8: all tries fail, the last answer counts
--- http
upstream three {
    server $TEST_NGINX_A;
    server $TEST_NGINX_B;
    server $TEST_NGINX_C;
}
--- config
proxy_next_upstream http_500 http_502 http_503;
location /t { proxy_pass http://three; }
--- client eval
sub { get('/t?try=500,502,503') }
--- tree
both:
SERVER GET /t 503 error=503
  CLIENT GET 500 error=500 network.peer.port=$TEST_NGINX_PORT_A
  CLIENT GET 502 error=502 resend=1 network.peer.port=$TEST_NGINX_PORT_B
  CLIENT GET 503 error=503 resend=2 network.peer.port=$TEST_NGINX_PORT_C



=== TEST 9: proxy_next_upstream_tries, _timeout, and off end the tries
--- http
upstream three {
    server $TEST_NGINX_A max_fails=0;
    server $TEST_NGINX_B max_fails=0;
    server $TEST_NGINX_C max_fails=0;
}
--- config
proxy_next_upstream http_502;
location /tries {
    proxy_next_upstream_tries 2;
    proxy_pass http://three;
}
location /timeout {
    proxy_next_upstream_timeout 100ms;
    proxy_pass http://three;
}
location /off {
    proxy_next_upstream off;
    proxy_pass http://three;
}
--- client eval
sub {
    get('/tries?try=502,502,200', '/timeout?try=502,200&delay=0.15',
        '/off?try=502,200');
}
--- tree
both:
SERVER GET /tries 502 error=502
  CLIENT GET 502 error=502
  CLIENT GET 502 error=502 resend=1
SERVER GET /timeout 502 error=502
  CLIENT GET 502 error=502
SERVER GET /off 502 error=502
  CLIENT GET 502 error=502



=== TEST 10: what may not be sent twice is sent twice where that is said
--- http
upstream refusing {
    server $TEST_NGINX_REFUSING max_fails=0;
    server $TEST_NGINX_B backup;
}
--- config
location /once { proxy_next_upstream http_502; proxy_pass http://two; }
location /twice {
    proxy_next_upstream http_502 non_idempotent;
    proxy_pass http://two;
}
location /refused { proxy_pass http://refusing; }
--- client eval
sub {
    talk(::request("POST $_?try=502,200", 'x')) for qw(/once /twice);
    talk(::request('POST /refused', 'x'));
}
--- tree
both:
SERVER POST /once 502 error=502
  CLIENT POST 502 error=502
SERVER POST /twice 200
  CLIENT POST 502 error=502
  CLIENT POST 200 resend=1
SERVER POST /refused 200
  CLIENT POST error=connect events=-
  CLIENT POST 200 resend=1
--- error_log
Connection refused



=== TEST 11: no connection: refused, no socket, no answer
--- http
upstream refusing {
    server $TEST_NGINX_REFUSING;
    server $TEST_NGINX_B backup;
}
upstream nobody {
    server unix:$TEST_NGINX_DIR/refusing.sock;
    server $TEST_NGINX_B backup;
}
upstream full {
    server $TEST_NGINX_FULL;
    server $TEST_NGINX_B backup;
}
--- config
location /refusing { proxy_pass http://refusing; }
location /nobody { proxy_pass http://nobody; }
location /full {
    proxy_connect_timeout 300ms;
    proxy_pass http://full;
}
location /last { proxy_pass http://$TEST_NGINX_REFUSING; }
--- client eval
sub { get('/refusing', '/nobody', '/full', '/last') }
--- tree
both:
SERVER GET /refusing 200
  CLIENT GET error=connect events=- network.peer.address=127.0.0.1 network.peer.port=$TEST_NGINX_PORT_REFUSING nginx.upstream.name=refusing
  CLIENT GET 200 resend=1 network.peer.port=$TEST_NGINX_PORT_B
SERVER GET /nobody 200
  CLIENT GET error=connect events=- network.peer.address=$TEST_NGINX_DIR/refusing.sock
  CLIENT GET 200 resend=1
SERVER GET /full 200
  CLIENT GET error=timeout events=-
  CLIENT GET 200 resend=1
SERVER GET /last 502 error=502
  CLIENT GET error=connect events=-
--- error_log
Connection refused
upstream timed out



=== TEST 12: a connection, but no header: closed, reset, invalid, timed out
--- config
proxy_next_upstream error timeout invalid_header;
location /t { proxy_pass http://two; }
location /slow { proxy_read_timeout 500ms; proxy_pass http://two; }
--- client eval
sub {
    get((map { "/t?try=$_,200" } qw(close half reset garbage)),
        '/slow?try=hang,200');
}
--- tree
both:
SERVER GET /t 200
  CLIENT GET error=reset events=connect
  CLIENT GET 200 resend=1
SERVER GET /t 200
  CLIENT GET error=reset events=connect,first_byte
  CLIENT GET 200 resend=1
SERVER GET /t 200
  CLIENT GET error=reset events=connect
  CLIENT GET 200 resend=1
SERVER GET /t 200
  CLIENT GET error=invalid_header events=connect,first_byte
  CLIENT GET 200 resend=1
SERVER GET /slow 200
  CLIENT GET error=timeout events=connect
  CLIENT GET 200 resend=1
--- error_log
prematurely closed connection
Connection reset by peer
upstream timed out
upstream sent invalid header



=== TEST 13: the same, where that is the end of it
--- config
proxy_next_upstream off;
location /t { proxy_pass http://two; }
location /slow { proxy_read_timeout 300ms; proxy_pass http://two; }
--- client eval
sub {
    get((map { "/t?try=$_" } qw(close reset garbage)), '/slow?try=hang');
}
--- tree
both:
SERVER GET /t 502 error=502
  CLIENT GET error=reset
SERVER GET /t 502 error=502
  CLIENT GET error=reset
SERVER GET /t 502 error=502
  CLIENT GET error=invalid_header
SERVER GET /slow 504 error=504
  CLIENT GET error=timeout
--- error_log
prematurely closed connection



=== TEST 14: a response that is cut short, which nothing can mend
--- config
location /t { proxy_pass http://two; }
location /slow { proxy_read_timeout 300ms; proxy_pass http://two; }
--- client eval
sub {
    talk(::request("GET $_")) for qw(/t?try=cut /t?try=break
        /t?try=cut&chunked=1 /t?try=break&chunked=1 /t?try=break&eof=1);
    talk(::request("GET /slow?try=stall$_")) for '', '&chunked=1', '&eof=1';
}
--- tree eval
"both:\n" . <<'_EOC_' x 5 . <<'_EOD_' x 3
SERVER GET /t 200 error=reset
  CLIENT GET 200 error=reset events=connect,first_byte
_EOC_
SERVER GET /slow 200 error=timeout
  CLIENT GET 200 error=timeout events=connect,first_byte
_EOD_
--- error_log
prematurely closed connection
Connection reset by peer
upstream timed out



=== TEST 15: a request that nobody reads
--- http
client_max_body_size 20m;
--- config
proxy_send_timeout 300ms;
location /t { proxy_pass http://$TEST_NGINX_SILENT; }
--- client eval
sub { talk(::request('POST /t', 'x' x 12_000_000)) }
--- tree
both:
SERVER POST /t 504 error=504
  CLIENT POST error=timeout events=connect sent=0
--- error_log
upstream timed out



=== TEST 16: a kept connection is closed before it answers
--- http
upstream kept {
    server $TEST_NGINX_A;
    keepalive 1;
}
--- config
proxy_http_version 1.1;
proxy_set_header Connection "";
location /t { proxy_pass http://kept; }
location /reset { proxy_pass http://kept; }
--- client eval
sub {
    get(('/t?try=200,close,200') x 2, ('/reset?try=200,reset,200') x 2);
    talk(::request('POST /t?try=close', 'x'));
}
--- tree
both:
SERVER GET /t 200
  CLIENT GET 200 reused=false
SERVER GET /t 200
  CLIENT GET error=keepalive_race reused=true events=-
  CLIENT GET 200 resend=1 reused=false
SERVER GET /reset 200
  CLIENT GET 200 reused=true
SERVER GET /reset 200
  CLIENT GET error=keepalive_race reused=true events=-
  CLIENT GET 200 resend=1 reused=false
SERVER POST /t 502 error=502
  CLIENT POST error=keepalive_race reused=true
--- error_log
prematurely closed connection
Connection reset by peer



=== TEST 17: a kept connection fails later, as any other
--- http
upstream kept {
    server $TEST_NGINX_A max_fails=0;
    keepalive 1;
}
--- config
proxy_http_version 1.1;
proxy_set_header Connection "";
location /t { proxy_pass http://kept; }
location /slow { proxy_read_timeout 300ms; proxy_pass http://kept; }
--- client eval
sub { talk(::request("GET $_")) for qw(/t /t?try=cut /t /slow?try=hang) }
--- tree
both:
SERVER GET /t 200
  CLIENT GET 200 reused=false
SERVER GET /t 200 error=reset
  CLIENT GET 200 error=reset reused=true
SERVER GET /t 200
  CLIENT GET 200 reused=false
SERVER GET /slow 504 error=504
  CLIENT GET error=timeout reused=true events=- sent=1
--- error_log
prematurely closed connection
upstream timed out



=== TEST 18: no live upstreams
--- http
upstream dead {
    server $TEST_NGINX_REFUSING;
    server unix:$TEST_NGINX_DIR/refusing.sock;
}
--- config
location /t { proxy_pass http://dead; }
--- client eval
sub { get('/t', '/t') }
--- tree
both:
SERVER GET /t 502 error=502
  CLIENT GET error=connect
  CLIENT GET error=connect resend=1
SERVER GET /t 502 error=502
  CLIENT GET error=no_live_upstream network.peer.address=- network.peer.port=- nginx.upstream.name=dead events=-
--- error_log
no live upstreams



=== TEST 19: backup servers
--- http
upstream spare {
    server $TEST_NGINX_A max_fails=0;
    server $TEST_NGINX_B backup;
    server $TEST_NGINX_C backup;
}
--- config
proxy_next_upstream http_502;
location /t { proxy_pass http://spare; }
--- client eval
sub { get('/t?try=502,502,200') }
--- tree
both:
SERVER GET /t 200
  CLIENT GET 502 error=502 network.peer.port=$TEST_NGINX_PORT_A
  CLIENT GET 502 error=502 resend=1 network.peer.port~$TEST_NGINX_PORT_B|$TEST_NGINX_PORT_C
  CLIENT GET 200 resend=2 network.peer.port~$TEST_NGINX_PORT_B|$TEST_NGINX_PORT_C



=== TEST 20: all balancers of nginx, with and without connections that are kept
--- http eval
my %balancers = (rr => '', ip_hash => 'ip_hash;', least_conn => 'least_conn;',
    hash => 'hash $uri;', consistent => 'hash $uri consistent;',
    random => 'random;', random_two => 'random two;', zone => 'zone z 64k;',
    zone_least_conn => 'zone zl 64k; least_conn;',
    zone_random => 'zone zr 64k; random two least_conn;');

CORE::join '', map { my $name = $_; map { <<"_EOC_" } '', 'keepalive 4;' }
upstream $name${\($_ && '_kept')} {
    $balancers{$name}
    server \$TEST_NGINX_A weight=3 max_fails=0;
    server \$TEST_NGINX_B max_fails=0;
    $_
}
_EOC_
    sort keys %balancers
--- config
proxy_next_upstream http_502;
proxy_http_version 1.1;
proxy_set_header Connection "";
location ~ ^/(?<balancer>\w+) {
    trace_span_name $balancer;
    proxy_pass http://$balancer;
}
--- client eval
sub {
    get(map { ("/$_?try=502,200", "/${_}_kept?try=200,502,200",
               "/${_}_kept?try=200,502,200") }
        qw(rr ip_hash least_conn hash consistent random random_two zone
           zone_least_conn zone_random));
}
--- tree eval
CORE::join '', "both:\n", map { <<"_EOC_" } qw(rr ip_hash least_conn hash consistent
SERVER $_ 200
  CLIENT GET 502 error=502 reused=false nginx.upstream.name=$_
  CLIENT GET 200 resend=1 reused=false nginx.upstream.name=$_
SERVER ${_}_kept 200
  CLIENT GET 200 reused=false nginx.upstream.name=${_}_kept
SERVER ${_}_kept 200
  CLIENT GET 502 error=502 nginx.upstream.name=${_}_kept
  CLIENT GET 200 resend=1 nginx.upstream.name=${_}_kept
_EOC_
    random random_two zone zone_least_conn zone_random)



=== TEST 21: a balancer in Lua
--- skip_eval: 3: ($ENV{TEST_NGINX_LOAD_MODULES} // '') !~ /_lua_/
--- http
upstream lua {
    server 0.0.0.1;
    balancer_by_lua_block {
        local balancer = require "ngx.balancer"
        local ports = { $TEST_NGINX_PORT_REFUSING, $TEST_NGINX_PORT_C }

        ngx.ctx.tries = (ngx.ctx.tries or 0) + 1
        if ngx.ctx.tries == 1 then
            balancer.set_more_tries(1)
        end
        balancer.set_current_peer("127.0.0.1", ports[ngx.ctx.tries])
    }
    keepalive 2;
}
--- config
location /t { proxy_pass http://lua; }
--- client eval
sub { get('/t') }
--- tree
both:
SERVER GET /t 200
  CLIENT GET error=connect network.peer.port=$TEST_NGINX_PORT_REFUSING nginx.upstream.name=lua
  CLIENT GET 200 resend=1 network.peer.port=$TEST_NGINX_PORT_C nginx.upstream.name=lua
--- error_log
Connection refused



=== TEST 22: a variable names an upstream block, an address, or a host
--- http
resolver $TEST_NGINX_RESOLVER ipv6=off;
--- config
proxy_next_upstream http_502;
location /block { set $to two; proxy_pass http://$to; }
location /address { set $to $TEST_NGINX_A; proxy_pass http://$to; }
location /host {
    set $to name.test;
    proxy_pass http://$to:$TEST_NGINX_PORT_C;
}
--- client eval
sub {
    get(map { "/$_?try=502,200" } qw(block address host));
    get('/host');
}
--- tree
both:
SERVER GET /block 200
  CLIENT GET 502 error=502 nginx.upstream.name=two
  CLIENT GET 200 resend=1 nginx.upstream.name=two
SERVER GET /address 502 error=502
  CLIENT GET 502 error=502 network.peer.port=$TEST_NGINX_PORT_A nginx.upstream.name=- events=connect,first_byte,last_byte
SERVER GET /host 200
  CLIENT GET 502 error=502 sent=2 server.address=name.test server.port=$TEST_NGINX_PORT_C nginx.upstream.name=-
  CLIENT GET 200 resend=1 sent=0 server.address=name.test server.port=$TEST_NGINX_PORT_C network.peer.address=127.0.0.1
SERVER GET /host 200
  CLIENT GET 200 server.address=name.test network.peer.address=127.0.0.1



=== TEST 23: a variable names what fails
--- http
resolver $TEST_NGINX_RESOLVER ipv6=off;
--- config
location /refused { set $to $TEST_NGINX_REFUSING; proxy_pass http://$to; }
location /twice {
    set $to name.test;
    proxy_pass http://$to:$TEST_NGINX_PORT_REFUSING;
}
location /t { set $to $TEST_NGINX_A; proxy_pass http://$to; }
location /slow {
    set $to $TEST_NGINX_A;
    proxy_read_timeout 300ms;
    proxy_pass http://$to;
}
--- client eval
sub {
    get('/refused', '/twice');
    talk(::request("GET $_")) for qw(/t?try=close /t?try=cut
        /slow?try=hang);
}
--- tree
both:
SERVER GET /refused 502 error=502
  CLIENT GET error=connect
SERVER GET /twice 502 error=502
  CLIENT GET error=connect
  CLIENT GET error=connect resend=1
SERVER GET /t 502 error=502
  CLIENT GET error=reset events=connect
SERVER GET /t 200 error=reset
  CLIENT GET 200 error=reset events=connect,first_byte
SERVER GET /slow 504 error=504
  CLIENT GET error=timeout events=connect
--- error_log
Connection refused
prematurely closed connection
upstream timed out



=== TEST 24: without buffers
--- http
upstream refusing {
    server $TEST_NGINX_REFUSING max_fails=0;
    server $TEST_NGINX_B backup;
}
--- config
proxy_http_version 1.1;
proxy_next_upstream error http_502 non_idempotent;
location /response { proxy_buffering off; proxy_pass http://two; }
location /slow {
    proxy_buffering off;
    proxy_read_timeout 300ms;
    proxy_pass http://two;
}
location /request { proxy_request_buffering off; proxy_pass http://two; }
location /refusing {
    proxy_request_buffering off;
    proxy_pass http://refusing;
}
--- client eval
sub {
    talk(::request('GET /response?try=502,200&size=100000'));
    talk(::request('GET /response?chunked=1&size=100000&pause=0.05'));
    talk(::request("GET /response?try=$_")) for qw(cut break&eof=1);
    talk(::request("GET /slow?try=stall$_")) for '', '&eof=1';
    talk(::request('POST /request?try=502,200', 'x' x 100000));
    talk(::request('POST /refusing', 'x' x 100000));
    is_deeply([map { $_->{body} } $::UPSTREAM->requests(9)],
              [(0) x 7, (100000) x 2], 'bodies');
}
--- tree
both:
SERVER GET /response 200
  CLIENT GET 502 error=502
  CLIENT GET 200 resend=1 events=connect,first_byte,last_byte
SERVER GET /response 200
  CLIENT GET 200 events=connect,first_byte,last_byte
SERVER GET /response 200 error=reset
  CLIENT GET 200 error=reset events=connect,first_byte
SERVER GET /response 200 error=reset
  CLIENT GET 200 error=reset events=connect,first_byte
SERVER GET /slow 200 error=timeout
  CLIENT GET 200 error=timeout events=connect,first_byte
SERVER GET /slow 200 error=timeout
  CLIENT GET 200 error=timeout events=connect,first_byte
SERVER POST /request 502 error=502
  CLIENT POST 502 error=502
SERVER POST /refusing 200
  CLIENT POST error=connect
  CLIENT POST 200 resend=1
--- error_log
Connection refused
prematurely closed connection
upstream timed out



=== TEST 25: a body that lies in a file is sent again, as it was
--- config
client_body_buffer_size 1k;
proxy_next_upstream error http_502 non_idempotent;
location /t { proxy_pass http://two; }
location /file { client_body_in_file_only clean; proxy_pass http://two; }
--- client eval
sub {
    talk(::request("POST $_?try=502,200", 'x' x 200000)) for qw(/t /file);
    talk(::request('POST /t?try=close,200', 'x' x 200000));
    is_deeply([map { $_->{body} } $::UPSTREAM->requests(6)], [(200000) x 6],
              'bodies');
}
--- tree
both:
SERVER POST /t 200
  CLIENT POST 502 error=502
  CLIENT POST 200 resend=1
SERVER POST /file 200
  CLIENT POST 502 error=502
  CLIENT POST 200 resend=1
SERVER POST /t 200
  CLIENT POST error=reset
  CLIENT POST 200 resend=1
--- error_log
[warn]
prematurely closed connection



=== TEST 26: long responses, in files, in chunks, slow
--- config
proxy_http_version 1.1;
location /t { proxy_pass http://two; }
location /slow { limit_rate 400k; proxy_pass http://two; }
--- client eval
sub {
    like(talk(::request("GET $_")), qr/\r\n\r\nx{10}/, $_) for
        '/t?size=300000', '/slow?size=100000', '/t?size=10&delay=0.1';
    like(talk(::request('GET /t?size=20000&chunked=1&pause=0.1')),
         qr/\r\n0\r\n\r\n\z/, 'chunks');
    talk(::request('GET /t?size=20000&eof=1'));
}
--- tree
both:
SERVER GET /t 200
  CLIENT GET 200 events=connect,first_byte,last_byte
SERVER GET /slow 200
  CLIENT GET 200 events=connect,first_byte,last_byte
SERVER GET /t 200
  CLIENT GET 200 events=connect,first_byte,last_byte
SERVER GET /t 200
  CLIENT GET 200 events=connect,first_byte,last_byte
SERVER GET /t 200
  CLIENT GET 200 events=connect,first_byte,last_byte



=== TEST 27: when things happen
--- config
location /t { proxy_pass http://two; }
--- client eval
sub { get('/t?delay=0.2&pause=0.4') }
--- tree
both:
SERVER GET /t 200
  CLIENT GET 200
--- check_spans eval
sub {
    for my $span (grep { $_->{kind} eq 'CLIENT' } @_) {
        my ($start, @times) = map { int $_ / 1e6 }
            $span->{start_time_unix_nano},
            (map { $_->{time_unix_nano} } @{$span->{events}}),
            $span->{end_time_unix_nano};

        is(scalar @times, 4, 'three events and the end');
        cmp_ok($times[0] - $start, '<', 150, 'connects at once');
        cmp_ok($times[1] - $times[0], '>=', 199, 'waits for the first byte');
        cmp_ok($times[1] - $times[0], '<', 399, 'and no longer');
        cmp_ok($times[2] - $times[1], '>=', 399, 'waits for the last byte');
        cmp_ok($times[3] - $times[2], '<', 150, 'and ends');
    }
}



=== TEST 28: a connection that is upgraded
--- config
proxy_http_version 1.1;
location /t {
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection upgrade;
    proxy_pass http://two;
}
--- client eval
sub {
    my $socket = connection();

    syswrite $socket, "GET /t?upgrade=1 HTTP/1.1\r\nHost: a\r\n"
        . "Connection: upgrade\r\nUpgrade: echo\r\n\r\n";
    sysread $socket, my $answer, 4096;
    like($answer, qr/^HTTP\/1.1 101 /, 'upgraded');
    syswrite $socket, 'hello';
    sysread $socket, $answer, 4096;
    is($answer, 'hello', 'echo');
}
--- tree
both:
SERVER GET /t 101
  CLIENT GET 101



=== TEST 29: the client leaves, while nginx waits or sends
--- http
server {
    listen unix:$TEST_NGINX_DIR/small.sock sndbuf=4k;
    location / { proxy_max_temp_file_size 0; proxy_pass http://two; }
}
--- config
location /t { proxy_pass http://two; }
--- client eval
sub {
    talk(::request('GET /t?delay=5'), 0.1);

    my $socket = IO::Socket::UNIX->new("$::DIR/small.sock");
    syswrite $socket, ::request('GET /?size=10000000');
    sysread $socket, my $answer, 1000;
    close $socket;
}
--- tree
both:
SERVER GET /t error=client_closed
  CLIENT GET error=client_closed events=connect
SERVER GET / 200 error=client_closed
  CLIENT GET 200 error=client_closed events=connect,first_byte



=== TEST 30: the client leaves, and the upstream is waited for
--- config
location /t { proxy_ignore_client_abort on; proxy_pass http://two; }
--- client eval
sub { talk(::request('GET /t?delay=0.3'), 0.1) }
--- tree
both:
SERVER GET /t 200
  CLIENT GET 200 events=connect,first_byte,last_byte



=== TEST 31: TLS, where sessions are used again
--- http
server {
    listen unix:$TEST_NGINX_DIR/tls.sock ssl;
    ssl_certificate $TEST_NGINX_DIR/cert.pem;
    ssl_certificate_key $TEST_NGINX_DIR/cert.key;
    ssl_protocols TLSv1.2;
    ssl_session_cache shared:tls:1m;
    trace internal off;
    trace user off;
    trace_trusted internal unix:;
    location / {
        add_header X-Session $ssl_session_reused;
        proxy_pass http://two;
    }
}
server {
    listen unix:$TEST_NGINX_DIR/plain.sock;
    trace internal off;
    trace user off;
}
upstream tls { server unix:$TEST_NGINX_DIR/tls.sock max_fails=0; }
upstream tls_kept {
    server unix:$TEST_NGINX_DIR/tls.sock;
    keepalive 1;
}
upstream mixed {
    server unix:$TEST_NGINX_DIR/plain.sock;
    server unix:$TEST_NGINX_DIR/tls.sock backup;
}
--- config
proxy_http_version 1.1;
proxy_set_header Connection "";
location /t { proxy_pass https://tls; }
location /kept { proxy_pass https://tls_kept; }
location /mixed { proxy_pass https://mixed; }
location /verify { proxy_ssl_verify on; proxy_pass https://tls;
    proxy_ssl_trusted_certificate $TEST_NGINX_DIR/cert.pem;
}
--- client eval
sub {
    is_deeply([get('/t', '/t', '/kept', '/kept', '/mixed', '/verify')
               =~ /^X-Session: (.*)\r$/mg], [qw(. r . . .)], 'sessions');
}
--- tree
both:
SERVER GET /t 200
  CLIENT GET 200 url.full=https://tls/t reused=false
SERVER GET /t 200
  CLIENT GET 200 reused=false
SERVER GET /kept 200
  CLIENT GET 200 reused=false
SERVER GET /kept 200
  CLIENT GET 200 reused=true
SERVER GET /mixed 200
  CLIENT GET error=tls events=- sent=0
  CLIENT GET 200 resend=1
SERVER GET /verify 502 error=502
  CLIENT GET error=tls events=- sent=0
--- error_log
SSL_do_handshake() failed
upstream SSL certificate verify error



=== TEST 32: one pipeline alone
--- config
proxy_next_upstream http_502;
location /internal { trace user off; proxy_pass http://two; }
location /user { trace internal off; proxy_pass http://two; }
location /none { trace internal off; trace user off; proxy_pass http://two; }
--- client eval
sub { get(map { "$_?try=502,200" } qw(/internal /user /none)) }
--- tree
internal:
SERVER GET /internal 200
  CLIENT GET 502 error=502
  CLIENT GET 200 resend=1
user:
SERVER GET /user 200
  CLIENT GET 502 error=502
  CLIENT GET 200 resend=1



=== TEST 33: a pipeline whose header is not sent
--- config
trace_context internal extract;
proxy_next_upstream http_502;
location /t { proxy_pass http://two; }
--- client eval
sub { get('/t?try=502,200') }
--- tree
internal:
SERVER GET /t 200
  CLIENT GET 502 error=502 sent=0
  CLIENT GET 200 resend=1 sent=0
user:
SERVER GET /t 200
  CLIENT GET 502 error=502
  CLIENT GET 200 resend=1



=== TEST 34: trace_upstream
--- config
proxy_next_upstream http_502;
location /both { trace_upstream both; proxy_pass http://two; }
location /internal { trace_upstream internal; proxy_pass http://two; }
location /user { trace_upstream user; proxy_pass http://two; }
location /off { trace_upstream off; proxy_pass http://two; }
--- client eval
sub { get(map { "$_?try=502,200" } qw(/both /internal /user /off)) }
--- tree
internal:
SERVER GET /both 200
  CLIENT GET 502 error=502
  CLIENT GET 200 resend=1
SERVER GET /internal 200
  CLIENT GET 502 error=502
  CLIENT GET 200 resend=1
SERVER GET /user 200 sent=2
SERVER GET /off 200 sent=2
user:
SERVER GET /both 200
  CLIENT GET 502 error=502
  CLIENT GET 200 resend=1
SERVER GET /internal 200 sent=2
SERVER GET /user 200
  CLIENT GET 502 error=502
  CLIENT GET 200 resend=1
SERVER GET /off 200 sent=2



=== TEST 35: the operator's own header wins, and what it shows is this try's
--- shows_internal: upstream
--- config
proxy_next_upstream http_502;
location /mine {
    proxy_set_header traceparent mine;
    proxy_set_header x-op-traceparent "";
    proxy_pass http://two;
}
location /copy {
    proxy_set_header x-copy-traceparent $internal_traceparent;
    proxy_set_header y-copy-traceparent $user_traceparent;
    proxy_pass http://two;
}
location /own {
    proxy_set_header x-op-traceparent $internal_traceparent;
    proxy_set_header traceparent $user_traceparent;
    proxy_pass http://two;
}
--- client eval
sub {
    get(map { "$_?try=502,200" } qw(/mine /copy /own));
    is_deeply([::received(6, 'traceparent')]->[0], 'mine', 'mine');
}
--- tree
both:
SERVER GET /mine 200
  CLIENT GET 502 error=502 sent=0
  CLIENT GET 200 resend=1 sent=0
SERVER GET /copy 200
  CLIENT GET 502 error=502 sent=2
  CLIENT GET 200 resend=1 sent=2
SERVER GET /own 200
  CLIENT GET 502 error=502
  CLIENT GET 200 resend=1



=== TEST 36: the variables, before, while and after an upstream is asked
--- shows_internal: response
--- config
proxy_next_upstream http_502;
location /t {
    set $before $internal_traceparent,$user_traceparent;
    add_header X-Before $before;
    add_header X-After $internal_traceparent,$user_traceparent;
    proxy_pass http://two;
}
--- client eval
sub { $::answer = get('/t?try=502,200') }
--- tree
both:
SERVER GET /t 200
  CLIENT GET 502 error=502
  CLIENT GET 200 resend=1
--- check_spans eval
sub {
    my ($before, $after) = map { $::answer =~ /^X-$_: (.*)\r$/m }
        qw(Before After);

    for my $i (0, 1) {
        my @of = grep { exists $_->{headers}{'x-tenant'} == $i } @_;
        my ($request) = grep { $_->{kind} eq 'SERVER' } @of;
        my ($last) = grep { $_->{attributes}{'http.request.resend_count'} }
            @of;

        like((split /,/, $before)[$i], qr/-$request->{span_id}-/, 'request');
        like((split /,/, $after)[$i], qr/-$last->{span_id}-/, 'last try');
    }
}



=== TEST 37: another upstream after a redirect begins anew
--- config
proxy_next_upstream http_502;
location /error {
    proxy_intercept_errors on;
    error_page 503 = @spare;
    proxy_pass http://two;
}
location @spare { proxy_pass http://$TEST_NGINX_C; }
location /accel { proxy_pass http://two; }
location /inner { proxy_pass http://two/x; }
--- client eval
sub { get('/error?try=502,503,200', '/accel?redirect=/inner') }
--- tree
internal:
SERVER GET @spare 200
  CLIENT GET 502 error=502
  CLIENT GET 503 error=503 resend=1
  CLIENT GET 200 nginx.upstream.name=-
SERVER GET /inner 200
  CLIENT GET 200 nginx.upstream.name=two
  CLIENT GET 200 nginx.upstream.name=two
user:
SERVER GET 200
  CLIENT GET 502 error=502
  CLIENT GET 503 error=503 resend=1
  CLIENT GET 200
SERVER GET /inner 200
  CLIENT GET 200
  CLIENT GET 200



=== TEST 38: an upstream that is traced is the child of the try that reached it
--- http
server {
    listen unix:$TEST_NGINX_DIR/inner.sock;
    trace_trusted internal unix:;
    location /t { return 200; }
}
upstream inner {
    server $TEST_NGINX_REFUSING;
    server unix:$TEST_NGINX_DIR/inner.sock backup;
}
--- config
location /t { proxy_pass http://inner; }
--- client eval
sub { get('/t') }
--- tree
both:
SERVER GET /t 200
  CLIENT GET error=connect
  CLIENT GET 200 resend=1
    SERVER GET /t 200
--- error_log
Connection refused



=== TEST 39: many requests at once, each with its tries
--- config
proxy_next_upstream http_502;
location /t { proxy_pass http://two; }
--- client eval
sub {
    my @sockets = map { my $socket = connection();
        syswrite $socket, ::request("GET /t?try=502,200&delay=0.05&n=$_");
        $socket } 1 .. 20;

    for (@sockets) {
        1 while sysread $_, my $answer, 4096;
    }
}
--- tree eval
"both:\n" . <<'_EOC_' x 20
SERVER GET /t 200
  CLIENT GET 502 error=502
  CLIENT GET 200 resend=1
_EOC_



=== TEST 40: the tries of a subrequest are its children
--- config
proxy_next_upstream http_502;
location /t {
    auth_request /auth;
    proxy_pass http://two;
}
location /auth { proxy_pass http://two/auth?try=502,204; }
--- client eval
sub { get('/t?try=502,200') }
--- tree
both:
SERVER GET /t 200
  INTERNAL subrequest /auth 204
    CLIENT GET 502 error=502
    CLIENT GET 204 resend=1
  CLIENT GET 502 error=502
  CLIENT GET 200 resend=1



=== TEST 41: a balancer in Lua that has the request made anew
--- skip_eval: 3: ($ENV{TEST_NGINX_LOAD_MODULES} // '') !~ /_lua_/
--- http
upstream lua {
    server 0.0.0.1;
    balancer_by_lua_block {
        local balancer = require "ngx.balancer"

        ngx.ctx.tries = (ngx.ctx.tries or 0) + 1
        if ngx.ctx.tries == 1 then
            balancer.set_more_tries(3)
        elseif ngx.ctx.tries == 2 then
            balancer.recreate_request()
        end
        balancer.set_current_peer("127.0.0.1", $TEST_NGINX_PORT_C)
    }
}
--- config
location /t { proxy_next_upstream http_502; proxy_pass http://lua; }
--- client eval
sub { get('/t?try=502,502,502,200') }
--- tree
both:
SERVER GET /t 200
  CLIENT GET 502 error=502
  CLIENT GET 502 error=502 resend=1
  CLIENT GET 502 error=502 resend=2
  CLIENT GET 200 resend=3



=== TEST 42: a balancer in Lua that chooses nobody
--- skip_eval: 3: ($ENV{TEST_NGINX_LOAD_MODULES} // '') !~ /_lua_/
--- http
upstream error {
    server 0.0.0.1;
    balancer_by_lua_block { ngx.exit(ngx.ERROR) }
}
upstream busy {
    server 0.0.0.1;
    balancer_by_lua_block { ngx.exit(-3) }
}
--- config
location /error { proxy_pass http://error; }
location /busy { proxy_pass http://busy; }
--- client eval
sub { get($_) for qw(/error /busy) }
--- tree
both:
SERVER GET /error 500 error=500
  CLIENT GET error=balancer network.peer.address=- network.peer.port=- nginx.upstream.name=error events=-
SERVER GET /busy 502 error=502
  CLIENT GET error=no_live_upstream network.peer.address=- network.peer.port=- nginx.upstream.name=busy events=-
--- error_log
no live upstreams



=== TEST 43: what an error page changes of the request is not the attempt's
--- config
error_page 502 = /page;
location /fastcgi { fastcgi_pass $TEST_NGINX_REFUSING; }
location /proxy { proxy_pass http://$TEST_NGINX_REFUSING; }
location /page { return 200; }
--- client eval
sub { talk(::request("POST $_", 'hello')) for qw(/fastcgi /proxy?a=1) }
--- tree
both:
SERVER POST /page 200 http.request.method=POST
  CLIENT POST error=connect http.request.method=POST network.protocol.name=fastcgi
SERVER POST /page 200 http.request.method=POST
  CLIENT POST error=connect http.request.method=POST url.full=http://127.0.0.1:$TEST_NGINX_PORT_REFUSING/proxy?a=1
--- error_log
Connection refused



=== TEST 44: the client leaves in the middle of a response without buffers
--- config
location /t { proxy_buffering off; proxy_pass http://two; }
--- client eval
sub {
    like(talk(::request("GET /t?$_"), 0.2), qr/ 200 /, 'status 200')
        for 'size=1000&pause=5', 'try=stall';
}
--- tree
both:
SERVER GET /t 200 error=client_closed
  CLIENT GET 200 error=client_closed events=connect,first_byte
SERVER GET /t 200 error=client_closed
  CLIENT GET 200 error=client_closed events=connect,first_byte



=== TEST 45: the client leaves in the middle of a body that is passed on at once
--- config
location /t { proxy_request_buffering off; proxy_pass http://two; }
--- client eval
sub {
    talk(::request('POST /t', undef, 'Content-Length: 2000') . 'x' x 1000, 0.2);
}
--- tree
both:
SERVER POST /t error=client_closed
  CLIENT POST error=client_closed events=connect sent=0



=== TEST 46: a chunk that is none
--- config
proxy_http_version 1.1;
location /t { proxy_pass http://two; }
location /unbuffered { proxy_buffering off; proxy_pass http://two; }
--- client eval
sub {
    talk(::request("GET $_?chunked=1&last=x&size=100000&pause=0.1"))
        for qw(/t /unbuffered);
}
--- tree
both:
SERVER GET /t 200 error=reset
  CLIENT GET 200 error=reset events=connect,first_byte
SERVER GET /unbuffered 200 error=reset
  CLIENT GET 200 error=reset events=connect,first_byte
--- error_log
invalid chunked response

# Attempts of all modules that ask an upstream, and of the cache before it.

use strict;
use warnings;
use IO::Socket::UNIX;
use Wire;

our $DIR = $ENV{TEST_NGINX_DIR};

upstream($_) for qw(fastcgi scgi uwsgi grpc memcached);

sub memcached {
    my ($key, $value) = @_;
    my $socket = IO::Socket::UNIX->new("$DIR/memcached.sock")
        or die "memcached: $!";

    print $socket "set $key 0 0 " . length($value) . "\r\n$value\r\n";
    $socket->flush;
    <$socket> eq "STORED\r\n" or die 'memcached does not store';
}

# a gRPC call: the status that comes back, and the message

sub call {
    my ($method, $message) = @_;

    my $call = "call $DIR/h2.sock $method $message 2> $DIR/grpc.log";

    chomp(my $answer = `/usr/bin/python3 t/lib/grpc_echo.py $call`);
    return $answer;
}

# the same failures for each protocol

sub ways {
    get((map { "$_,200" } qw(/t?try=503 /t?try=close /t?try=garbage
        /slow?try=hang)), '/spare', '/alone', '/t?try=503');
    talk("POST /t?try=200 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
        . "Content-Length: 100000\r\n\r\n" . 'x' x 100000);
    talk(request("$_&size=1000")) for qw(/t?try=cut /slow?try=stall);

    Test::More::is((upstream($_[0])->requests)[-3]{body}, 100000, 'body');
}

sub ways_tree {
    my $protocol = shift;
    my $http = $protocol eq 'http';
    my $name = $http ? '-' : $protocol;
    my $url = $http ? 'http://http/t?try=503' : '-';
    my $version = $http ? '1.0' : '-';
    my $socket = "$DIR/$protocol.sock";

    return <<"_EOC_";
both:
SERVER GET /t 200
  CLIENT GET 503 error=503 events=connect,first_byte
  CLIENT GET 200 resend=1 events=connect,first_byte,last_byte
SERVER GET /t 200
  CLIENT GET error=reset events=connect
  CLIENT GET 200 resend=1
SERVER GET /t 200
  CLIENT GET error=invalid_header events=connect,first_byte
  CLIENT GET 200 resend=1
SERVER GET /slow 200
  CLIENT GET error=timeout events=connect
  CLIENT GET 200 resend=1
SERVER GET /spare 200
  CLIENT GET error=connect events=- network.peer.address=$DIR/nobody.sock
  CLIENT GET 200 resend=1 network.peer.address=$socket
SERVER GET /alone 200
  CLIENT GET 200 network.peer.address=$socket nginx.upstream.name=-
SERVER GET /t 503 error=503
  CLIENT GET 503 error=503
  CLIENT GET 503 error=503 resend=1 http.request.method=GET url.full=$url network.protocol.name=$name network.protocol.version=$version server.address=$protocol nginx.upstream.name=$protocol reused=false events=connect,first_byte,last_byte
SERVER POST /t 200
  CLIENT POST 200 http.request.method=POST
SERVER GET /t 200 error=reset
  CLIENT GET 200 error=reset events=connect,first_byte
SERVER GET /slow 200 error=timeout
  CLIENT GET 200 error=timeout events=connect,first_byte
_EOC_
}

# both pipelines record; of each protocol, there is an upstream of two servers
# and one that has to be left first

add_block_preprocessor(sub {
    my $block = shift;

    $block->set_value('http', <<'_EOC_' . join('', map { <<"_EOD_" }
    trace internal on;
    trace user on;
    trace_context internal propagate header=x-op-traceparent;
    trace_routing acme;
    proxy_cache_path $TEST_NGINX_DIR/cache keys_zone=cache:1m;
_EOC_
    upstream $_ {
        server unix:\$TEST_NGINX_DIR/$_.sock max_fails=0;
        server unix:\$TEST_NGINX_DIR/$_.sock max_fails=0;
    }
    upstream ${_}_spare {
        server unix:\$TEST_NGINX_DIR/nobody.sock max_fails=0;
        server unix:\$TEST_NGINX_DIR/$_.sock backup;
    }
_EOD_
        qw(http fastcgi scgi uwsgi grpc memcached))
        . ($block->http // ''));
});

my $nobody = IO::Socket::UNIX->new(Local => "$DIR/nobody.sock",
    Type => SOCK_STREAM) or die "no socket: $!";

no_long_string();
run_tests();

__DATA__

=== TEST 1: fastcgi
--- config
fastcgi_param REQUEST_METHOD $request_method;
fastcgi_param REQUEST_URI $request_uri;
fastcgi_param CONTENT_LENGTH $content_length;
fastcgi_next_upstream error timeout invalid_header http_503;
fastcgi_keep_conn on;
location /t { fastcgi_pass fastcgi; }
location /slow { fastcgi_read_timeout 500ms; fastcgi_pass fastcgi; }
location /spare { fastcgi_pass fastcgi_spare; }
location /alone { fastcgi_pass unix:$TEST_NGINX_DIR/fastcgi.sock; }
--- client eval
sub { ::ways('fastcgi') }
--- tree eval
::ways_tree('fastcgi')
--- error_log
prematurely closed
Connection refused
upstream timed out



=== TEST 2: scgi
--- config
scgi_param REQUEST_METHOD $request_method;
scgi_param REQUEST_URI $request_uri;
scgi_param CONTENT_LENGTH $content_length;
scgi_next_upstream error timeout invalid_header http_503;
location /t { scgi_pass scgi; }
location /slow { scgi_read_timeout 500ms; scgi_pass scgi; }
location /spare { scgi_pass scgi_spare; }
location /alone { scgi_pass unix:$TEST_NGINX_DIR/scgi.sock; }
--- client eval
sub { ::ways('scgi') }
--- tree eval
::ways_tree('scgi')
--- error_log
prematurely closed
Connection refused
upstream timed out



=== TEST 3: uwsgi
--- config
uwsgi_param REQUEST_METHOD $request_method;
uwsgi_param REQUEST_URI $request_uri;
uwsgi_param CONTENT_LENGTH $content_length;
uwsgi_next_upstream error timeout invalid_header http_503;
location /t { uwsgi_pass uwsgi; }
location /slow { uwsgi_read_timeout 500ms; uwsgi_pass uwsgi; }
location /spare { uwsgi_pass uwsgi_spare; }
location /alone { uwsgi_pass unix:$TEST_NGINX_DIR/uwsgi.sock; }
--- client eval
sub { ::ways('uwsgi') }
--- tree eval
::ways_tree('uwsgi')
--- error_log
prematurely closed
Connection refused
upstream timed out



=== TEST 4: proxy
--- config
proxy_next_upstream error timeout invalid_header http_503;
location /t { proxy_pass http://http; }
location /slow { proxy_read_timeout 500ms; proxy_pass http://http; }
location /spare { proxy_pass http://http_spare; }
location /alone { proxy_pass http://unix:$TEST_NGINX_DIR/http.sock; }
--- client eval
sub { ::ways('http') }
--- tree eval
::ways_tree('http')
--- error_log
prematurely closed
Connection refused
upstream timed out



=== TEST 5: fastcgi, over connections that are kept
--- http
upstream kept {
    server unix:$TEST_NGINX_DIR/fastcgi.sock;
    keepalive 1;
}
--- config
fastcgi_keep_conn on;
fastcgi_param REQUEST_URI $request_uri;
location /t { fastcgi_pass kept; }
--- client eval
sub { get(('/t?try=200,close,200') x 2) }
--- tree
both:
SERVER GET /t 200
  CLIENT GET 200 reused=false
SERVER GET /t 200
  CLIENT GET error=keepalive_race reused=true
  CLIENT GET 200 resend=1 reused=false
--- error_log
prematurely closed connection



=== TEST 6: grpc, where each try sends the id of the first
--- http
server {
    listen unix:$TEST_NGINX_DIR/h2.sock http2;
    location / { grpc_pass grpc://grpc; }
    location /echo/spare { grpc_pass grpc://grpc_spare; }
    location /echo/late { grpc_read_timeout 300ms; grpc_pass grpc://grpc; }
}
--- config
--- client eval
sub {
    is(::call('/echo/t', 'hello'), 'OK hello', 'echo');
    is(::call('/echo/fail', ''), 'UNAVAILABLE', 'a status of gRPC');
    is(::call('/echo/spare', 'hello'), 'OK hello', 'after a retry');
    is(::call('/echo/late', ''), 'UNAVAILABLE', 'too late');
}
--- tree
both:
SERVER POST / 200
  CLIENT POST 200 url.full=http://grpc/echo/t server.address=grpc network.peer.address=$TEST_NGINX_DIR/grpc.sock network.protocol.version=2 network.protocol.name=- nginx.upstream.name=grpc events=connect,first_byte,last_byte
SERVER POST / 200
  CLIENT POST 200
SERVER POST /echo/spare 200
  CLIENT POST error=connect sent=1
  CLIENT POST 200 resend=1 sent=0
SERVER POST /echo/late 504 error=504
  CLIENT POST error=timeout
--- error_log
Connection refused
upstream timed out



=== TEST 7: memcached
--- config
memcached_next_upstream error timeout not_found;
set $memcached_key $arg_key;
location /t { memcached_pass memcached; }
location /spare { memcached_pass memcached_spare; }
location /first {
    memcached_next_upstream error;
    memcached_pass memcached;
}
--- client eval
sub {
    ::memcached('here', 'hello');
    like(get('/t?key=here'), qr/hello/, 'hit');
    get('/first?key=none', '/t?key=none', '/spare?key=here');
}
--- tree
both:
SERVER GET /t 200
  CLIENT get sent=0 db.system.name=memcached db.operation.name=get http.request.method=- url.full=- server.address=memcached network.peer.address=$TEST_NGINX_DIR/memcached.sock network.protocol.name=- nginx.upstream.name=memcached reused=false events=connect,first_byte,last_byte
SERVER GET /first 404
  CLIENT get sent=0
SERVER GET /t 404
  CLIENT get sent=0
  CLIENT get resend=1 sent=0
SERVER GET /spare 200
  CLIENT get error=connect sent=0
  CLIENT get resend=1 sent=0
--- error_log
Connection refused
key: "none" was not found



=== TEST 8: proxy_cache: a miss, a hit, a bypass
--- config
proxy_cache cache;
proxy_cache_bypass $http_x_bypass;
proxy_next_upstream http_503;
location /t { proxy_pass http://http; }
--- client eval
sub {
    get(('/t?age=100&try=503,200') x 2);
    get(['X-Bypass: 1'], '/t?age=100&try=503,200');
}
--- tree
both:
SERVER GET /t 200 nginx.cache.status=MISS
  CLIENT GET 503 error=503
  CLIENT GET 200 resend=1
SERVER GET /t 200 nginx.cache.status=HIT
SERVER GET /t 200 nginx.cache.status=BYPASS
  CLIENT GET 200



=== TEST 9: proxy_cache: what is too old is asked for again
--- config
proxy_cache cache;
proxy_next_upstream off;
location /expired { proxy_pass http://http; }
location /stale { proxy_cache_use_stale http_503; proxy_pass http://http; }
location /dead { proxy_cache_use_stale error; proxy_pass http://http; }
location /revalidated { proxy_cache_revalidate on; proxy_pass http://http; }
location /updating {
    proxy_cache_use_stale updating;
    proxy_pass http://http;
}
location /background {
    proxy_cache_use_stale updating;
    proxy_cache_background_update on;
    proxy_pass http://http;
}
--- client eval
sub {
    my @paths = ('/expired?age=1', '/stale?age=1&try=200,503',
        '/dead?age=1&try=200,close', '/revalidated?age=1&etag=v1',
        '/updating?age=1&delay=0.3', '/background?age=1&delay=0.3');

    get(@paths);
    select undef, undef, undef, 2.1;
    get(@paths[0 .. 3]);

    my $first = connection();
    syswrite $first, main::request($paths[4]);
    select undef, undef, undef, 0.1;
    get($paths[4]);
    1 while sysread $first, my $answer, 4096;

    get($paths[5]);
}
--- tree
both:
SERVER GET /expired 200 nginx.cache.status=MISS
  CLIENT GET 200
SERVER GET /stale 200 nginx.cache.status=MISS
  CLIENT GET 200
SERVER GET /dead 200 nginx.cache.status=MISS
  CLIENT GET 200
SERVER GET /revalidated 200 nginx.cache.status=MISS
  CLIENT GET 200
SERVER GET /updating 200 nginx.cache.status=MISS
  CLIENT GET 200
SERVER GET /background 200 nginx.cache.status=MISS
  CLIENT GET 200
SERVER GET /expired 200 nginx.cache.status=EXPIRED
  CLIENT GET 200
SERVER GET /stale 200 nginx.cache.status=STALE
  CLIENT GET 503 error=503
SERVER GET /dead 200 nginx.cache.status=STALE
  CLIENT GET error=reset
SERVER GET /revalidated 200 nginx.cache.status=REVALIDATED
  CLIENT GET 304
SERVER GET /updating 200 nginx.cache.status=UPDATING
SERVER GET /updating 200 nginx.cache.status=EXPIRED
  CLIENT GET 200
SERVER GET /background 200 nginx.cache.status=STALE
  INTERNAL subrequest /background 200 outlives
    CLIENT GET 200
--- error_log
prematurely closed connection



=== TEST 10: proxy_cache_lock: two at once, and one of them asks
--- config
proxy_cache cache;
proxy_cache_lock on;
location /t { proxy_pass http://http; }
--- client eval
sub {
    my @sockets = map { my $socket = connection();
        syswrite $socket, main::request('/t?age=100&delay=0.3');
        $socket } 1, 2;

    for (@sockets) {
        1 while sysread $_, my $answer, 4096;
    }
}
--- tree
both:
SERVER GET /t 200 nginx.cache.status=MISS
  CLIENT GET 200
SERVER GET /t 200 nginx.cache.status=HIT



=== TEST 11: fastcgi_cache, uwsgi_cache, scgi_cache
--- http
fastcgi_cache_path $TEST_NGINX_DIR/fastcgi_cache keys_zone=fastcgi:1m;
uwsgi_cache_path $TEST_NGINX_DIR/uwsgi_cache keys_zone=uwsgi:1m;
scgi_cache_path $TEST_NGINX_DIR/scgi_cache keys_zone=scgi:1m;
--- config
fastcgi_param REQUEST_URI $request_uri;
uwsgi_param REQUEST_URI $request_uri;
scgi_param REQUEST_URI $request_uri;
location /fastcgi {
    fastcgi_cache fastcgi;
    fastcgi_cache_key $request_uri;
    fastcgi_pass fastcgi;
}
location /uwsgi {
    uwsgi_cache uwsgi;
    uwsgi_cache_key $request_uri;
    uwsgi_pass uwsgi;
}
location /scgi {
    scgi_cache scgi;
    scgi_cache_key $request_uri;
    scgi_pass scgi;
}
--- client eval
sub { get(map { ("/$_?age=100") x 2 } qw(fastcgi uwsgi scgi)) }
--- tree
both:
SERVER GET /fastcgi 200 nginx.cache.status=MISS
  CLIENT GET 200
SERVER GET /fastcgi 200 nginx.cache.status=HIT
SERVER GET /uwsgi 200 nginx.cache.status=MISS
  CLIENT GET 200
SERVER GET /uwsgi 200 nginx.cache.status=HIT
SERVER GET /scgi 200 nginx.cache.status=MISS
  CLIENT GET 200
SERVER GET /scgi 200 nginx.cache.status=HIT

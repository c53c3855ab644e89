# However a request ends, it leaves one span, and says how it ended; and so do
# its attempts. What is no request leaves none. What nginx logs is what is
# recorded.
#
# With TEST_LONG=1 a connection that is upgraded stays open for a minute.

use strict;
use warnings;
use H2;
use Nginx;
use TraceTest;

our $DIR = $ENV{TEST_NGINX_DIR};

# workers of an nginx of one's own are another user
chmod 0755, $DIR;

# the lines of the access log, each with status and request line

# what the access log says, once it has |n| lines: nginx writes them after the
# response, and after a lingering close

sub logged {
    my $n = shift;
    my @lines;

    for (1 .. 100) {
        @lines = log_lines();
        last if @lines >= $n;
        select undef, undef, undef, 0.05;
    }

    return @lines;
}

sub log_lines {
    open my $fh, '<', "$ENV{TEST_NGINX_SERVROOT}/logs/access.log"
        or die "access.log: $!";
    return map { m{"(.*?)" (\d{3}) } ? "$2 $1" : $_ } <$fh>;
}

# a request without more than it needs

sub request {
    my ($line, @headers) = @_;

    return join "\r\n", "$line HTTP/1.1", 'Host: a', 'Connection: close',
        @headers, '', '';
}

# what says how it ended

sub ending {
    my $span = shift;

    return join ' ', $span->{name},
        map { defined $_ ? $_ : '-' }
        $span->{attributes}{'http.response.status_code'},
        $span->{attributes}{'error.type'}, $span->{status}{code};
}

# what comes on a socket until it is closed or |$seconds| are over

sub rest {
    my ($socket, $seconds) = @_;
    my $select = IO::Select->new($socket);
    my $end = Time::HiRes::time() + ($seconds || 5);
    my $got = '';

    while ($select->can_read($end - Time::HiRes::time())) {
        last if !sysread $socket, $got, 65536, length $got;
    }

    return $got;
}

# an nginx of one's own whose spans come to the same place

sub own_nginx {
    my %conf = @_;

    return Nginx->new(%conf, http => "trace_exporter internal {
        endpoint $ENV{TEST_NGINX_OTLP}; interval 20ms; } trace internal on;"
        . ($conf{http} || ''))->start;
}

# A server that upgrades |$n| connections, one after the other, sends back what
# it gets, and closes after "bye". A process of its own.

sub upgrader {
    my $n = shift;
    my $path = "$DIR/upgrade.sock";

    unlink $path;
    my $listener = IO::Socket::UNIX->new(Local => $path, Listen => 5)
        or die "$path: $!";
    chmod 0777, $path;

    my $pid = fork();
    die "fork: $!" if !defined $pid;
    return $pid if $pid;

    $SIG{ALRM} = 'DEFAULT';
    alarm 90;

    for (1 .. $n) {
        my $socket = $listener->accept or last;

        1 while ($_ = <$socket>) ne "\r\n";
        syswrite $socket, "HTTP/1.1 101 Switching Protocols\r\n"
            . "Connection: upgrade\r\nUpgrade: test\r\n\r\n";

        while (my $line = <$socket>) {
            syswrite $socket, $line;
            last if $line eq "bye\n";
        }
    }

    require POSIX;
    POSIX::_exit(0);
}

# an upgraded connection through nginx

sub upgraded {
    my $path = shift;
    my $socket = connection();

    syswrite $socket, "GET $path HTTP/1.1\r\nHost: a\r\nUpgrade: test\r\n"
        . "Connection: upgrade\r\n\r\n";
    Test::More::like(scalar <$socket>, qr{^HTTP/1.1 101 }, 'upgraded');
    1 while <$socket> ne "\r\n";

    return $socket;
}

add_block_preprocessor(sub {
    my $block = shift;

    $block->set_value('http', ($block->http || '')
        . "trace internal on;\n");
});

no_long_string();
run_tests();

__DATA__

=== TEST 1: a head that is refused
--- config
client_header_buffer_size 1k;
large_client_header_buffers 2 1k;
location /t { return 204; }
--- client eval
sub {
    my @answers = map { talk($_) =~ /^(HTTP\S* \d+)/ ? $1 : 'none' }
        "garbage\r\n\r\n",
        "GET /t HTTP/1.1\r\n\r\n",
        "GET /t HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET /t HTTP/1.1\r\nHost: a/b\r\n\r\n",
        "GET /t HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
        "GET /t HTTP/1.1\r\nHost: a\r\nx\x00: b\r\n\r\n",
        "GET /../.. HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /t HTTP/2.5\r\nHost: a\r\n\r\n",
        "GET /" . 'x' x 3000 . " HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /t HTTP/1.1\r\nHost: a\r\nX: " . 'x' x 3000 . "\r\n\r\n",
        "GET /t HTTP/1.1\r\nHost: a\r\n" . 'X: ' . 'x' x 900 . "\r\n"
        . ('Y: ' . 'x' x 900 . "\r\n") x 4 . "\r\n",
        "CONNECT /t HTTP/1.1\r\nHost: a\r\n\r\n",
        "TRACE /t HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /t HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: x\r\n\r\n";

    is_deeply(\@answers, [(map { "HTTP/1.1 $_" } (400) x 7, 505, 414, 400, 400,
        405, 405, 501)], 'answers');
    is(scalar ::logged(14), 14, 'logged');
}
--- check_spans eval
sub {
    is_deeply([map { ::ending($_) } @_], [
        'HTTP 400 - UNSET', ('GET 400 - UNSET') x 5, 'GET 400 - UNSET',
        'GET 505 505 ERROR', 'GET 414 - UNSET', ('GET 400 - UNSET') x 2,
        'CONNECT 405 - UNSET', 'TRACE 405 - UNSET', 'POST 501 501 ERROR'],
        'endings');

    for (@_) {
        is($_->{flags}, 0x103, 'flags');
        like($_->{attributes}{'http.request.method'},
             $_->{name} =~ /^HTTP/ ? qr/^_OTHER$/ : qr/^$_->{name}$/,
             'method');
    }
}
--- span_count: 14
--- error_log
client sent



=== TEST 2: refused, or answered, before any location is asked
--- config
lingering_timeout 200ms;
location /limit { client_max_body_size 10; proxy_pass http://127.0.0.1:1; }
location /dir/ { proxy_pass http://127.0.0.1:1; }
location /hidden { internal; return 204; }
location /only { limit_except GET { deny all; } return 204; }
location /denied { deny all; }
location /none { return 404; }
--- client eval
sub {
    talk(::request($_)) for 'GET /dir', 'GET /hidden', 'GET /none',
        'GET /denied';
    talk(::request('POST /only', 'Content-Length: 1') . 'x');
    talk(::request('POST /limit', 'Content-Length: 11') . 'x' x 11);
    talk(::request('POST /limit', 'Content-Length: 99999999999'));
    is(scalar ::logged(7), 7, 'logged');
}
--- check_spans eval
sub {
    is_deeply([map { ::ending($_) } @_], [
        'GET /dir/ 301 - UNSET', 'GET /hidden 404 - UNSET',
        'GET /none 404 - UNSET', 'GET /denied 403 - UNSET',
        'POST /only 403 - UNSET', ('POST /limit 413 - UNSET') x 2], 'endings');
}
--- span_count: 7
--- error_log
access forbidden by rule
client intended to send too large body



=== TEST 3: limit_except
--- config
location /only {
    limit_except GET { deny all; }
    try_files /nosuch =404;
}
--- client eval
sub { talk(::request('DELETE /only')) }
--- spans eval
[{ name => 'DELETE /only', attributes => {
    'http.response.status_code' => 403, 'http.route' => '/only' } }]
--- error_log
access forbidden by rule



=== TEST 4: a return of the server
--- config
return 418 "teapot\n";
--- request
GET /any/path
--- error_code: 418
--- spans eval
[{ name => 'GET', status => { code => 'UNSET' }, attributes => {
    'http.response.status_code' => 418, 'http.route' => undef,
    'url.path' => '/any/path', 'error.type' => undef } }]



=== TEST 5: errors of the server and of the upstream
--- http
server {
    listen unix:$TEST_NGINX_DIR/upstream.sock;
    trace internal off;
    location /sleep { echo_sleep 2; }
    location /501 { return 501; }
}
--- config
proxy_read_timeout 100ms;
location /500 { return 500; }
location /502 { proxy_pass http://127.0.0.1:1; }
location /504 { proxy_pass http://unix:$TEST_NGINX_DIR/upstream.sock:/sleep; }
location /501 { proxy_pass http://unix:$TEST_NGINX_DIR/upstream.sock; }
location /599 { return 599; }
--- client eval
sub { talk(::request("GET $_")) for qw(/500 /502 /504 /501 /599) }
--- tree
SERVER GET /500 500 error=500
SERVER GET /502 502 error=502
  CLIENT GET error=connect
SERVER GET /504 504 error=504
  CLIENT GET error=timeout
SERVER GET /501 501 error=501
  CLIENT GET 501 error=501
SERVER GET /599 599 error=599
--- error_log
connect() failed
upstream timed out



=== TEST 6: the client leaves while the upstream works
--- http
server {
    listen unix:$TEST_NGINX_DIR/upstream.sock;
    trace internal off;
    location / { echo_sleep 3; }
}
--- config
location /t { proxy_pass http://unix:$TEST_NGINX_DIR/upstream.sock; }
--- client eval
sub { is(talk(::request('GET /t'), 0.2), '', 'no answer') }
--- tree
SERVER GET /t error=client_closed http.response.body.size=-
  CLIENT GET error=client_closed events=connect



=== TEST 7: the client leaves while it is sent something
--- config
location /t {
    limit_rate 1k;
    try_files /t.txt =404;
}
--- user_files eval
">>> t.txt\n" . 'x' x 1_000_000
--- client eval
sub { like(talk(::request('GET /t'), 0.3), qr/200 OK.*x/s, 'a part') }
--- check_spans eval
sub {
    is_deeply([map { ::ending($_) } @_], ['GET /t 200 client_closed UNSET'],
              'ending');
    cmp_ok($_[0]{attributes}{'http.response.body.size'}, '<', 1_000_000,
           'size');
}



=== TEST 8: closed without an answer
--- config
location /t { return 444; }
--- client eval
sub { is(talk(::request('GET /t')), '', 'no answer') }
--- spans eval
[{ name => 'GET /t', status => { code => 'UNSET' }, attributes => {
    'error.type' => undef, 'http.response.status_code' => undef } }]



=== TEST 9: HTTP/0.9 has no status line
--- config
location /t { return 200 "ok\n"; }
location /u { try_files /nosuch =404; }
--- client eval
sub {
    is(talk("GET /t\r\n"), "ok\n", 'answer');
    like(talk("GET /u\r\n"), qr/404 Not Found/, 'another');
}
--- spans eval
[map { { name => "GET $_", attributes => { 'http.response.status_code' => undef,
    'network.protocol.version' => '0.9', 'error.type' => undef,
    'http.response.body.size' => qr/^[1-9]\d*$/ } } } '/t', '/u']



=== TEST 10: a head that never ends
--- config
client_header_timeout 200ms;
location /t { return 204; }
--- client eval
sub {
    talk("GET /t HTTP/1.1\r\nHost: a\r\nX");
    talk("GET /t");
    talk("\r\n");
    my $socket = connection();
    syswrite $socket, "GET /t HTTP/1.1\r\n";
    close $socket;
    select undef, undef, undef, 0.3;

    is_deeply([::logged(3)], ['408 GET /t HTTP/1.1', '408 GET /t', '408 ',
                             '400 GET /t HTTP/1.1'], 'logged');
}
--- check_spans eval
sub {
    is(scalar @_, 4, 'as many as nginx has logged');
    is($_->{attributes}{'http.response.status_code'}, undef, 'none sent')
        for @_;
    is(scalar @_, 4, 'spans');
}
--- span_count: 4



=== TEST 11: connections without a request leave nothing
--- config
client_header_timeout 100ms;
keepalive_timeout 100ms;
location /t { return 204; }
--- client eval
sub {
    connection() for 1 .. 5;
    is(talk(''), '', 'says nothing');
    like(talk("GET /t HTTP/1.1\r\nHost: a\r\n\r\n"), qr/204/, 'one request');
    is(scalar ::logged(1), 1, 'logged');
}
--- spans eval
[{ name => 'GET /t' }]



=== TEST 12: 300 requests on one connection, and 100, and 20 at once
--- config
location /t { return 204; }
location /proxied { proxy_pass http://unix:$TEST_NGINX_DIR/upstream.sock; }
keepalive_requests 1000;
--- http
server {
    listen unix:$TEST_NGINX_DIR/upstream.sock;
    trace internal off;
    return 200 "ok\n";
}
--- client eval
sub {
    get(map { "/t?n=$_" } 1 .. 100);

    my $socket = connection();
    for (101 .. 400) {
        syswrite $socket, "GET /t?n=$_ HTTP/1.1\r\nHost: a\r\n\r\n";
        sysread $socket, my $answer, 4096;
    }

    is(scalar(() = get(map { "/proxied?n=$_" } 401 .. 420) =~ /^ok$/mg), 20,
       'answers');
}
--- check_spans eval
sub {
    my (%ids, %traces);

    is(scalar @_, 420, 'all');
    is_deeply([sort { $a <=> $b } map {
        $_->{attributes}{'url.query'} =~ /(\d+)/ } @_], [1 .. 420],
        'once');
    $ids{$_->{span_id}} = $traces{$_->{trace_id}} = 1 for @_;
    is(scalar keys %ids, 420, 'span-ids');
    is(scalar keys %traces, 420, 'trace-ids');
    is(scalar(grep { $_->{attributes}{'error.type'} } @_), 0, 'no error');
}
--- span_count: 420



=== TEST 13: subrequests are no requests, logged or not
--- config
log_subrequest on;
location /auth_request { auth_request /sub; try_files /t.txt =404; }
location /ssi { ssi on; ssi_types text/plain; try_files /ssi.txt =404; }
location /mirror { mirror /sub; try_files /t.txt =404; }
location /sub { return 204; }
--- user_files
>>> t.txt
ok
>>> ssi.txt
<!--#include virtual="/sub" --><!--#include virtual="/sub?2" -->
--- client eval
sub {
    get('/auth_request', '/ssi', '/mirror');
    cmp_ok(scalar ::logged(4), '>', 3, 'subrequests are logged');
}
--- check_spans eval
sub {
    is_deeply([map { ::ending($_) } @_], [map { "GET $_ 200 - UNSET" }
        qw(/auth_request /ssi /mirror)], 'spans');
}
--- span_count: 3



=== TEST 14: internal redirects make one span of the last location
--- config
location /error { error_page 404 /page; return 404; }
location /page { return 200 "page\n"; }
location /changed { error_page 500 =200 /page; return 500; }
location /named { error_page 404 = @named; return 404; }
location @named { return 201; }
location /rewrite { rewrite ^ /page last; }
location /dir/ { index t.html; root $TEST_NGINX_SERVROOT/html; }
location = /dir/t.html { return 202; }
location /accel { proxy_pass http://unix:$TEST_NGINX_DIR/upstream.sock; }
location /again { error_page 502 /again2; proxy_pass http://127.0.0.1:1; }
location /again2 { proxy_pass http://127.0.0.1:1; }
location /static { error_page 404 /404.html; try_files /nosuch =404; }
--- http
server {
    listen unix:$TEST_NGINX_DIR/upstream.sock;
    trace internal off;
    add_header X-Accel-Redirect /page;
    return 200;
}
--- user_files
>>> dir/t.html
index
--- client eval
sub {
    talk(::request("GET $_")) for qw(/error /changed /named /rewrite /dir/
        /accel /again /static);
}
--- check_spans eval
sub {
    is_deeply([map { ::ending($_) } @_], [
        'GET /page 404 - UNSET', 'GET /page 200 - UNSET',
        'GET @named 201 - UNSET', 'GET /page 200 - UNSET',
        'GET /dir/t.html 202 - UNSET', 'GET /page 200 - UNSET',
        'GET /again2 502 502 ERROR', 'GET / 404 - UNSET'], 'spans');
}
--- span_count: 8
--- error_log
connect() failed



=== TEST 15: times
--- config
location /t { return 204; }
location /slow { echo_sleep 0.2; echo done; }
--- client eval
sub {
    $::before = int(Time::HiRes::time() * 1000) * 1_000_000;
    get('/slow', '/t', '/t', '/t', '/t', '/t');
    $::after = int(Time::HiRes::time() * 1000 + 50) * 1_000_000;
}
--- check_spans eval
sub {
    my $digits = 0;

    for (@_) {
        my ($start, $end) = @$_{qw(start_time_unix_nano end_time_unix_nano)};

        cmp_ok($start, '>=', $::before, 'starts after the client');
        cmp_ok($end, '<=', $::after, 'ends before the client');
        cmp_ok($end, '>=', $start, 'ends after it starts');
        $digits += ($start % 1_000_000 != 0) + ($end % 1_000_000 != 0);
    }

    cmp_ok($digits, '>', 6, 'nanoseconds');

    my $slow = $_[0]{end_time_unix_nano} - $_[0]{start_time_unix_nano};
    is($_[0]{name}, 'GET /slow', 'slow one');
    cmp_ok($slow, '>=', 0.199e9, 'waits');
    cmp_ok($slow, '<', 2e9, 'and not too long');

    cmp_ok($_[$_]{start_time_unix_nano}, '>=',
           $_[$_ - 1]{end_time_unix_nano} - 1_000_000,
           "request $_ starts after the one before") for 1 .. 5;
}
--- span_count: 6



=== TEST 16: a head that comes in pieces belongs to the time
--- config
location /on { return 204; }
location /variable { trace internal $arg_a; return 204; }
location /early {
    trace internal $http_host;
    set $early $internal_trace_id;
    return 204;
}
location /redirect { trace internal off; try_files /nosuch @on; }
location @on { trace internal on; return 204; }
--- client eval
sub {
    for (qw(/on /variable?a=1 /early /redirect)) {
        my $socket = connection();

        syswrite $socket, "GET $_ HTTP/1.1\r\nHost: a\r\nConnec";
        select undef, undef, undef, 0.2;
        syswrite $socket, "tion: close\r\n\r\n";
        sysread $socket, my $answer, 4096;
    }
}
--- check_spans eval
sub {
    cmp_ok($_->{end_time_unix_nano} - $_->{start_time_unix_nano}, '>=',
           0.15e9, $_->{attributes}{'url.path'}) for @_;
    is(scalar @_, 4, 'spans');
}
--- span_count: 4



=== TEST 17: the client leaves while the upstream's answer comes
--- http
server {
    listen unix:$TEST_NGINX_DIR/upstream.sock;
    trace internal off;
    location / { echo part; echo_flush; echo_sleep 3; echo rest; }
}
--- config
location /buffered { proxy_pass http://unix:$TEST_NGINX_DIR/upstream.sock; }
location /unbuffered {
    proxy_buffering off;
    proxy_pass http://unix:$TEST_NGINX_DIR/upstream.sock;
}
--- client eval
sub {
    is(talk(::request('GET /buffered'), 0.3), '', 'nothing yet');
    like(talk(::request('GET /unbuffered'), 0.3), qr/ 200 OK.*part/s, 'a part');
}
--- tree
SERVER GET /buffered error=client_closed
  CLIENT GET 200 error=client_closed events=connect,first_byte
SERVER GET /unbuffered 200 error=client_closed
  CLIENT GET 200 error=client_closed events=connect,first_byte



=== TEST 18: the client leaves when the upstream has answered in full
--- http
server {
    listen unix:$TEST_NGINX_DIR/upstream.sock;
    trace internal off;
    root $TEST_NGINX_SERVROOT/html;
}
--- config
location /t {
    limit_rate 1k;
    proxy_pass http://unix:$TEST_NGINX_DIR/upstream.sock:/t.txt;
}
--- user_files eval
">>> t.txt\n" . 'x' x 500_000
--- client eval
sub { like(talk(::request('GET /t'), 0.4), qr/200 OK.*x/s, 'a part') }
--- tree
SERVER GET /t 200 error=client_closed
  CLIENT GET 200 events=connect,first_byte,last_byte
--- check_spans eval
sub {
    cmp_ok($_[1]{end_time_unix_nano} - $_[0]{end_time_unix_nano}, '>', 0.2e9,
        'the attempt has ended long before');
}
--- error_log
is buffered to a temporary file



=== TEST 19: the client reads no more
--- config
send_timeout 300ms;
location /t { root $TEST_NGINX_DIR; }
--- client eval
sub {
    open my $fh, '>', "$::DIR/t" or die $!;
    truncate $fh, 64_000_000;
    close $fh;

    my $socket = connection();
    syswrite $socket, ::request('GET /t');
    select undef, undef, undef, 1;
    unlink "$::DIR/t";
}
--- check_spans eval
sub {
    is_deeply([map { ::ending($_) } @_], ['GET /t 200 timeout UNSET'],
        'ending');
    cmp_ok($_[0]{attributes}{'http.response.body.size'}, '<', 64_000_000,
        'a part');
    cmp_ok($_[0]{end_time_unix_nano} - $_[0]{start_time_unix_nano}, '>',
        0.29e9, 'after the timeout');
}



=== TEST 20: the client says no more of its body
--- config
client_body_timeout 200ms;
location /t { proxy_pass http://127.0.0.1:1; }
location /u { proxy_request_buffering off; proxy_pass http://127.0.0.1:1; }
--- client eval
sub {
    is(talk(::request('POST /t', 'Content-Length: 9') . 'x'), '', 'no answer');
    talk(::request('POST /t', 'Content-Length: 9') . 'x', 0.1);
    is_deeply([::logged(2)], ['408 POST /t HTTP/1.1', '400 POST /t HTTP/1.1'],
        'logged');
}
--- span_count: 2
--- check_spans eval
sub {
    is_deeply([map { ::ending($_) } @_], ['POST /t - timeout UNSET',
        'POST /t - client_closed UNSET'], 'endings');
}



=== TEST 21: a body in chunks that grows too large
--- http
server {
    listen unix:$TEST_NGINX_DIR/upstream.sock;
    trace internal off;
    location / { echo_read_request_body; echo ok; }
}
--- config
proxy_http_version 1.1;
location /t {
    client_max_body_size 10;
    proxy_pass http://unix:$TEST_NGINX_DIR/upstream.sock;
}
location /u {
    client_max_body_size 10;
    proxy_request_buffering off;
    proxy_pass http://unix:$TEST_NGINX_DIR/upstream.sock;
}
--- client eval
sub {
    for (qw(/t /u)) {
        my $socket = connection();

        syswrite $socket, ::request("POST $_", 'Transfer-Encoding: chunked')
            . "3\r\nabc\r\n";
        select undef, undef, undef, 0.2;
        syswrite $socket, "8\r\nabcdefgh\r\n0\r\n\r\n";
        like(::rest($socket), qr/ 413 /, 'status 413');
    }
}
--- tree
SERVER POST /t 413
SERVER POST /u 413
  CLIENT POST error~.
--- error_log
client intended to send too large



=== TEST 22: the upstream ends before its answer does
--- http
server {
    listen unix:$TEST_NGINX_DIR/upstream.sock;
    trace internal off;
    default_type text/plain;
    location /cut {
        more_set_headers 'Content-Length: 1000';
        echo part;
        echo_flush;
    }
    location /hang { echo part; echo_flush; echo_sleep 3; }
}
--- config
proxy_read_timeout 200ms;
proxy_http_version 1.1;
location /cut { proxy_pass http://unix:$TEST_NGINX_DIR/upstream.sock; }
location /hang { proxy_pass http://unix:$TEST_NGINX_DIR/upstream.sock; }
location /unbuffered/ {
    proxy_buffering off;
    proxy_pass http://unix:$TEST_NGINX_DIR/upstream.sock:/;
}
location /off/ {
    trace_upstream off;
    proxy_pass http://unix:$TEST_NGINX_DIR/upstream.sock:/;
}
--- client eval
sub {
    like(talk(::request("GET $_")), qr/ 200 OK.*part/s, $_)
        for qw(/cut /hang /unbuffered/cut /unbuffered/hang /off/cut);
}
--- tree
SERVER GET /cut 200 error=reset
  CLIENT GET 200 error=reset events=connect,first_byte
SERVER GET /hang 200 error=timeout
  CLIENT GET 200 error=timeout events=connect,first_byte
SERVER GET /unbuffered/ 200 error=reset
  CLIENT GET 200 error=reset events=connect,first_byte
SERVER GET /unbuffered/ 200 error=timeout
  CLIENT GET 200 error=timeout events=connect,first_byte
SERVER GET /off/ 200 error=reset
--- error_log
upstream prematurely closed connection
upstream timed out



=== TEST 23: nginx quits while a request is open, and waits for it
--- config
location /t { return 204; }
--- client eval
sub {
    my $nginx = ::own_nginx(server => 'location /t { echo_sleep 1; echo ok; }
        location /p { proxy_pass http://127.0.0.1:1/; }');
    my @sockets = map { $nginx->connect } 1 .. 2;

    syswrite $_, ::request('GET /t') for @sockets;
    select undef, undef, undef, 0.3;

    my $time = $nginx->quit;
    cmp_ok($time, '>', 0.5, 'it waits');
    cmp_ok($time, '<', 3, 'and not longer');
    like(::rest($_), qr/ 200 OK.*ok/s, 'an answer') for @sockets;
}
--- spans eval
[({ name => 'GET /t', status => { code => 'UNSET' }, attributes => {
    'http.response.status_code' => 200, 'error.type' => undef } }) x 2]



=== TEST 24: nginx quits, and does not wait for longer than it was told
--- http
server {
    listen unix:$TEST_NGINX_DIR/part.sock;
    trace internal off;
    location / { echo part; echo_flush; echo_sleep 10; }
}
server {
    listen unix:$TEST_NGINX_DIR/never.sock;
    trace internal off;
    location / { echo_sleep 10; }
}
--- config
location /t { return 204; }
--- client eval
sub {
    my $nginx = ::own_nginx(main => 'worker_shutdown_timeout 300ms;',
        http => "server {
            listen unix:$::DIR/h2.sock http2;
            location /h2 { proxy_pass http://unix:$::DIR/never.sock; }
        }",
        server => "location /t { echo_sleep 30; }
            location /part { echo part; echo_flush; echo_sleep 30; }
            location /p {
                proxy_buffering off;
                proxy_pass http://unix:$::DIR/part.sock;
            }");
    my @sockets = map {
        my $socket = $nginx->connect;
        syswrite $socket, ::request("GET $_");
        $socket;
    } qw(/t /part /p);
    my $h2 = ::h2_connection("$::DIR/h2.sock");

    syswrite $h2, ::h2_get(1, '/h2');
    select undef, undef, undef, 0.3;

    my $time = $nginx->quit;
    cmp_ok($time, '>', 0.2, 'it waits');
    cmp_ok($time, '<', 3, 'and not longer');
}
--- span_count: 4
--- check_spans eval
sub {
    # of a stream it cannot be told from a client that has left
    is_deeply([sort map { ::ending($_) } @_], [
        'GET /h2 - client_closed UNSET',
        'GET /p 200 worker_shutdown UNSET',
        'GET /part 200 worker_shutdown UNSET',
        'GET /t - worker_shutdown UNSET'], 'endings');
}



=== TEST 25: streams of one HTTP/2 connection end each in its own way
--- http
server {
    listen unix:$TEST_NGINX_DIR/upstream.sock;
    trace internal off;
    location / { echo_sleep 0.4; echo ok; }
    location /static { return 200 "ok\n"; }
}
server {
    listen unix:$TEST_NGINX_DIR/h2.sock http2;
    location / { proxy_pass http://unix:$TEST_NGINX_DIR/upstream.sock; }
    location /static { return 200 "ok\n"; }
}
--- config
location /t { return 204; }
--- client eval
sub {
    connection();                   # waits until nginx listens
    my $h2 = ::h2_connection("$::DIR/h2.sock");
    my @streams = map { 2 * $_ + 1 } 0 .. 29;

    # every third waits, is reset, or needs no upstream
    syswrite $h2, CORE::join '', map {
        ::h2_get($_, ('/wait', '/reset', '/static')[$_ % 3] . "/$_")
    } @streams;
    select undef, undef, undef, 0.15;
    syswrite $h2, CORE::join '',
        map { ::h2_reset($_) } grep { $_ % 3 == 1 } @streams;
    ::rest($h2, 1);
}
--- span_count: 30
--- check_spans eval
sub {
    my %endings = map { $_->{attributes}{'url.path'} => ::ending($_) } @_;

    is(scalar @_, 30, 'one span each');
    is_deeply(\%endings, { map {
        my $path = ('/wait', '/reset', '/static')[$_ % 3] . "/$_";
        my $ending = ('GET / 200 - UNSET', 'GET / - client_closed UNSET',
                      'GET /static 200 - UNSET')[$_ % 3];
        ($path => $ending);
    } map { 2 * $_ + 1 } 0 .. 29 }, 'endings');
}



=== TEST 26: an HTTP/2 connection that is closed ends all of its requests
--- http
server {
    listen unix:$TEST_NGINX_DIR/h2.sock http2;
    location /part {
        proxy_buffering off;
        proxy_pass http://unix:$TEST_NGINX_DIR/slow.sock;
    }
    location /none { proxy_pass http://unix:$TEST_NGINX_DIR/slow.sock; }
}
server {
    listen unix:$TEST_NGINX_DIR/slow.sock;
    trace internal off;
    location /part { echo part; echo_flush; echo_sleep 10; }
    location /none { echo_sleep 10; }
}
--- config
location /t { return 204; }
--- client eval
sub {
    connection();
    my $h2 = ::h2_connection("$::DIR/h2.sock");

    syswrite $h2, ::h2_get(1, '/part') . ::h2_get(3, '/none');
    ::rest($h2, 0.2);
}
--- span_count: 2
--- check_spans eval
sub {
    is_deeply([sort map { ::ending($_) } @_], [
        'GET /none - client_closed UNSET', 'GET /part 200 client_closed UNSET'],
        'endings');
}



=== TEST 27: a connection that is upgraded is one request, however long
--- config
location /up {
    proxy_http_version 1.1;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection upgrade;
    proxy_read_timeout 1s;
    proxy_pass http://unix:$TEST_NGINX_DIR/upgrade.sock;
}
--- client eval
sub {
    my $pid = ::upgrader(3);
    my $seconds = $ENV{TEST_LONG} ? 60 : 2;

    # the upstream ends it, the client does, and time does
    for my $end (qw(bye leave idle)) {
        my $socket = ::upgraded("/up/$end");

        for (1 .. ($end eq 'bye' ? $seconds * 2 : 2)) {
            syswrite $socket, "line $_\n";
            is(scalar <$socket>, "line $_\n", 'sent back');
            select undef, undef, undef, 0.5 if $end eq 'bye';
        }

        syswrite $socket, "bye\n" if $end eq 'bye';
        ::rest($socket, 3) if $end ne 'leave';
        close $socket;
    }

    waitpid $pid, 0;
}
--- tree
SERVER GET /up 101 url.path=/up/bye
  CLIENT GET 101
SERVER GET /up 101 url.path=/up/leave
  CLIENT GET 101
SERVER GET /up 101 error=timeout url.path=/up/idle
  CLIENT GET 101 error=timeout
--- check_spans eval
sub {
    cmp_ok($_[1]{end_time_unix_nano} - $_[1]{start_time_unix_nano}, '>=',
        ($ENV{TEST_LONG} ? 60 : 2) * 1e9, 'it lasts');
}
--- error_log
upstream timed out

# However a request ends, it leaves one span, and says how it ended; what is no
# request leaves none. What nginx logs is what is recorded.

use strict;
use warnings;
use TraceTest;

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
location /499 { return 499; }
--- client eval
sub { talk(::request("GET $_")) for qw(/500 /502 /504 /501 /599) }
--- check_spans eval
sub {
    my @inner = grep { $_->{name} =~ /sleep/ } @_;
    my @outer = grep { $_->{attributes}{'client.address'} } @_;

    is_deeply([map { ::ending($_) } @outer],
              [map { "GET /$_ $_ $_ ERROR" } qw(500 502 504 501 599)],
              'endings');
}
--- span_count: 6
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
--- spans eval
[{ name => 'GET /t', status => { code => 'UNSET' }, attributes => {
    'error.type' => 'client_closed', 'http.response.status_code' => undef,
    'http.response.body.size' => undef } }]



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
    is($_[0]{attributes}{'http.response.status_code'}, 200, 'status');
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



=== TEST 12: 100 requests on one connection, and as many at once
--- config
location /t { return 204; }
keepalive_requests 1000;
--- client eval
sub {
    get(map { "/t?n=$_" } 1 .. 100);

    my $socket = connection();
    for (101 .. 200) {
        syswrite $socket, "GET /t?n=$_ HTTP/1.1\r\nHost: a\r\n\r\n";
        sysread $socket, my $answer, 4096;
    }
}
--- check_spans eval
sub {
    my (%ids, %traces);

    is(scalar @_, 200, 'all');
    is_deeply([sort { $a <=> $b } map {
        $_->{attributes}{'url.query'} =~ /(\d+)/ } @_], [1 .. 200], 'once');
    $ids{$_->{span_id}} = $traces{$_->{trace_id}} = 1 for @_;
    is(scalar keys %ids, 200, 'span-ids');
    is(scalar keys %traces, 200, 'trace-ids');
}
--- span_count: 200



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
           0.199e9, $_->{attributes}{'url.path'}) for @_;
    is(scalar @_, 4, 'spans');
}
--- span_count: 4

# The error log tells whose trace a line belongs to: trace_error_log. The ids
# are those that are exported.

use strict;
use warnings;
use H2;
use Nginx;
use Wire;

our $T = '0af7651916cd43dd8448eb211c80319c';
our $P = 'b7ad6b7169203331';

my $ids = qr/, trace_id: ([0-9a-f]{32}), span_id: ([0-9a-f]{16})$/;

# The lines of the error log that match, once there are |$n| of them, without
# those of the debug level, which name nobody.

sub main::lines {
    my ($pattern, $n) = @_;
    my @lines;

    for (1 .. 100) {
        open my $fh, '<', "$ENV{TEST_NGINX_SERVROOT}/logs/error.log"
            or die "error.log: $!";
        @lines = grep { /\n\z/ && !/ \[debug\] / && /$pattern/ } <$fh>;
        last if @lines >= ($n || 1);
        select undef, undef, undef, 0.02;
    }

    chomp @lines;
    return @lines;
}

# the ids at the end of a line; or 'none', if there is no word of ids; or else
# where the line ends

sub main::ids {
    my $line = shift;

    return 'none' if $line !~ /trace_id|span_id/;
    return "$1 $2" if $line =~ s/$ids// && $line !~ /trace_id|span_id/;
    return '...' . substr $line, -80;
}

sub main::ids_of { return "$_[0]{trace_id} $_[0]{span_id}" }

# the only span of such a name and pipeline

sub main::span {
    my ($name, $pipeline, @spans) = @_;
    my @found = grep {
        $_->{name} eq $name
            && ($pipeline eq 'user') == exists $_->{headers}{'x-tenant'}
    } @spans;

    Test::More::is(scalar @found, 1, "one span $name");
    return $found[0] // {};
}

# there are as many lines that match as |@spans|, and they have their ids

sub main::tell {
    my ($pattern, @spans) = @_;
    my @lines = main::lines($pattern, scalar @spans);

    Test::More::is_deeply([map { main::ids($_) } @lines],
        [map { ref $_ ? main::ids_of($_) : $_ } @spans], "lines: $pattern");
}

add_block_preprocessor(sub {
    my $block = shift;

    return if defined $block->http_config;

    $block->set_value('http', ($block->http || '') . <<'_EOC_');
        trace_context internal propagate header=x-op-traceparent;
        trace_routing acme;
_EOC_
    $block->set_value('no_error_log', "[alert]\n[emerg]");
});

no_long_string();
run_tests();

__DATA__

=== TEST 1: a line of a request ends in the ids of its span
--- config
trace internal on;
trace_error_log internal;
--- client eval
sub { ::talk(::request('/none')) }
--- check_spans eval
sub {
    my $span = shift;

    ::tell(qr/open\(\) ".*none" failed/, $span);
    my $own = ', server: localhost, request: "GET /none HTTP/1.1", host:'
        . ' "localhost"';
    my $ids = ", trace_id: $span->{trace_id}, span_id: $span->{span_id}";

    like((::lines(qr/failed/))[0], qr/\Q$own$ids\E$/,
         q{behind all of nginx's own});
}



=== TEST 2: off, the default, says nothing
--- config
trace internal on;
location /off { trace_error_log off; }
--- span_count: 2
--- client eval
sub { get('/none', '/off') }
--- check_spans eval
sub {
    is(scalar @_, 2, 'spans');
    ::tell(qr/open\(\) .* failed/, 'none', 'none');
}



=== TEST 3: each pipeline has its own ids
--- config
trace internal on;
trace user on;
location /internal { trace_error_log internal; }
location /user { trace_error_log user; }
--- span_count: 4
--- client eval
sub { get('/internal', '/user') }
--- check_spans eval
sub {
    ::tell(qr/open\(\) .* failed/,
           ::span('GET /internal', 'internal', @_),
           ::span('GET /user', 'user', @_));
}



=== TEST 4: requests that are not recorded have none, also where others are
--- config
trace_error_log internal;
location /on { trace internal on; }
location /off { }
location /variable { trace internal $arg_on; }
location /user { trace user on; }
--- span_count: 4
--- client eval
sub { get(qw(/on /off /variable /variable?on=1 /user /on)) }
--- check_spans eval
sub {
    my @internal = grep { !exists $_->{headers}{'x-tenant'} } @_;

    ::tell(qr/open\(\) .* failed/, $internal[0], 'none', 'none',
           $internal[1], 'none', $internal[2]);
}



=== TEST 5: the trace of the client is named
--- config
trace internal on;
trace_context internal propagate header=traceparent;
trace_error_log internal;
--- client eval
sub { ::talk(::request('/none', "traceparent: 00-$::T-$::P-00")) }
--- check_spans eval
sub {
    is($_[0]{trace_id}, $::T, 'trace-id');
    ::tell(qr/open\(\) .* failed/, $_[0]);
}



=== TEST 6: it comes from the nearest level
--- http
trace internal on;
trace user on;
trace_error_log internal;
--- config
location /http { }
location /off {
    trace_error_log off;

    location /off/same { }
    location /off/user { trace_error_log user; }
}
location /if {
    if ($arg_a) { trace_error_log user; }
}
--- span_count: 12
--- client eval
sub { get(qw(/http /off /off/same /off/user /if /if?a=1)) }
--- check_spans eval
sub {
    my @internal = @_[0 .. 5];
    my @user = @_[6 .. 11];

    ::tell(qr/open\(\) .* failed/, $internal[0], 'none', 'none', $user[3],
           $internal[4], $user[5]);
}



=== TEST 7: errors of an upstream: behind nginx's own words about it
--- http
upstream two {
    server 127.0.0.1:1;
    server 127.0.0.1:2;
}
--- config
trace internal on;
trace_error_log internal;
location /t { proxy_pass http://two; }
--- client eval
sub { like(::talk(::request('/t')), qr/ 502 /, 'status 502') }
--- check_spans eval
sub {
    my $span = ::span('GET /t', 'internal', @_);

    ::tell(qr/connect\(\) failed/, $span, $span);
    like($_, qr{, upstream: "\S+:[12]/t", host: "localhost", trace_id: },
         'upstream first') for ::lines(qr/connect\(\) failed/, 2);
}



=== TEST 8: the lines of a subrequest have the ids of its span
--- config
trace internal on;
trace_error_log internal;
location /t { auth_request /auth; try_files /t.txt =404; }
location /auth { proxy_pass http://127.0.0.1:1; }
--- user_files
>>> t.txt
text
--- client eval
sub { like(::talk(::request('/t')), qr/ 500 /, 'status 500') }
--- tree
SERVER GET /t 500 error=500
  INTERNAL subrequest /auth 502 error=502
    CLIENT GET error=connect
--- check_spans eval
sub {
    ::tell(qr/connect\(\) failed.* subrequest: "\/auth"/,
           ::span('subrequest /auth', 'internal', @_));
    ::tell(qr/auth request unexpected status/,
           ::span('GET /t', 'internal', @_));
}



=== TEST 9: and those of its request where it has none
--- config
trace internal on;
trace_error_log internal;
location /t { auth_request /auth; try_files /t.txt =404; }
location /auth { trace_subrequests off; proxy_pass http://127.0.0.1:1; }
--- user_files
>>> t.txt
text
--- client eval
sub { like(::talk(::request('/t')), qr/ 500 /, 'status 500') }
--- tree
SERVER GET /t 500 error=500
  CLIENT GET error=connect
--- check_spans eval
sub {
    my $span = ::span('GET /t', 'internal', @_);

    ::tell(qr/connect\(\) failed/, $span);
    ::tell(qr/auth request unexpected status/, $span);
}



=== TEST 10: each of several subrequests has its own, nested and side by side
--- config
trace internal on;
trace_error_log internal;
ssi_types *;
location /t { ssi on; try_files /t.txt =404; }
location /nested { ssi on; try_files /nested.txt =404; }
location /a { }
location /b { trace_error_log off; }
--- user_files
>>> t.txt
<!--#include virtual="/nested" --><!--#include virtual="/b" -->
>>> nested.txt
<!--#include virtual="/a" -->
--- client eval
sub { like(::talk(::request('/t')), qr/ 200 /, 'status 200') }
--- tree
SERVER GET /t 200
  INTERNAL subrequest /nested 200
    INTERNAL subrequest /a 404
  INTERNAL subrequest /b 404
--- check_spans eval
sub {
    ::tell(qr/open\(\) ".*\/a" failed/,
           ::span('subrequest /a', 'internal', @_));
    ::tell(qr/open\(\) ".*\/b" failed/, 'none');
}



=== TEST 11: subrequests of a request that is not recorded have none
--- config
trace_error_log internal;
location /t { auth_request /auth; try_files /t.txt =404; }
location /auth { trace internal on; proxy_pass http://127.0.0.1:1; }
location /on { trace internal on; return 204; }
--- user_files
>>> t.txt
text
--- client eval
sub { get($_) for '/t', '/on' }
--- tree
SERVER GET /on 204
--- check_spans eval
sub {
    ::tell(qr/connect\(\) failed/, 'none');
    ::tell(qr/auth request unexpected status/, 'none');
}



=== TEST 12: a request that is redirected keeps its ids
--- config
trace internal on;
trace user on;
recursive_error_pages on;
location /t {
    trace_error_log internal;
    error_page 502 = /next;
    proxy_pass http://127.0.0.1:1;
}
location /next {
    trace internal off;
    trace_error_log internal;
    error_page 404 = @last;
}
location @last {
    trace_error_log user;
    proxy_pass http://127.0.0.1:2;
}
--- span_count: 2
--- client eval
sub { like(::talk(::request('/t')), qr/ 502 /, 'status 502') }
--- check_spans eval
sub {
    my ($internal, $user) = @_;

    ::tell(qr/connect\(\) .*:1\/t"/, $internal);
    ::tell(qr/open\(\) ".*\/next" failed/, $internal);
    ::tell(qr/connect\(\) .*:2\//, $user);
}



=== TEST 13: Lua, in each phase
--- skip_eval: 3: ($ENV{TEST_NGINX_LOAD_MODULES} // '') !~ /_lua_/
--- config
trace internal on;
trace_error_log internal;
location /t {
    access_by_lua_block { ngx.log(ngx.WARN, "at access") }
    content_by_lua_block {
        ngx.log(ngx.WARN, "before")
        ngx.location.capture("/sub")
        ngx.log(ngx.WARN, "after")
        ngx.say("ok")
    }
    log_by_lua_block { ngx.log(ngx.WARN, "at log") }
}
location /sub { content_by_lua_block { ngx.log(ngx.WARN, "inside") } }
--- client eval
sub { like(::talk(::request('/t')), qr/ 200 /, 'status 200') }
--- tree
SERVER GET /t 200
  INTERNAL subrequest /sub 200
--- check_spans eval
sub {
    my $request = ::span('GET /t', 'internal', @_);

    ::tell(qr/at access/, $request);
    ::tell(qr/before/, $request);
    ::tell(qr/inside/, ::span('subrequest /sub', 'internal', @_));
    ::tell(qr/after/, $request);
    ::tell(qr/at log/, $request);
}



=== TEST 14: requests of one connection each have their own, and it has none
--- config
keepalive_timeout 100ms;
location /a { trace internal on; trace_error_log internal; }
location /b { trace_error_log internal; }
--- span_count: 3
--- client eval
sub {
    ::talk(CORE::join '', map { "GET $_ HTTP/1.1\r\nHost: localhost\r\n\r\n" }
        qw(/a /a /b /a));
}
--- check_spans eval
sub {
    ::tell(qr/open\(\) .* failed/, @_[0, 1], 'none', $_[2]);
    isnt($_[0]{span_id}, $_[1]{span_id}, 'ids of their own');
    is(::ids($_), 'none', $_) for ::lines(qr/keepalive|closed/, 0);
}



=== TEST 15: HTTP/2, whose requests share a connection
--- http
server {
    listen unix:$TEST_NGINX_DIR/h2.sock http2;
    trace internal on;
    trace_error_log internal;
    location / { trace_span_name $uri; }
}
--- config
location /t { return 204; }
--- span_count: 3
--- client eval
sub {
    ::connection();                 # waits until nginx listens
    my $socket = ::h2_connection("$ENV{TEST_NGINX_DIR}/h2.sock");
    syswrite $socket, CORE::join '',
        map { ::h2_get(2 * $_ - 1, "/none$_") } 1 .. 3;
    ::lines(qr/none\d" failed/, 3);
}
--- check_spans eval
sub {
    ::tell(qr/open\(\) ".*$_" failed/, ::span("/$_", 'internal', @_))
        for qw(none1 none2 none3);
}



=== TEST 16: a line that is too long for nginx is cut, its ids are not
--- config
large_client_header_buffers 4 16k;
trace internal on;
trace_error_log internal;
--- span_count: 40
--- client eval
sub {
    # nginx's own text is cut from about the twentieth on, and that it was cut
    # is the end of the last ones
    ::talk(::request('/none' . 'x' x (770 + 4 * $_))) for 0 .. 35;
    ::talk(::request('/none' . 'x' x (1000 * $_))) for 1 .. 4;
}
--- check_spans eval
sub {
    my @lines = ::lines(qr/open\(\) /, 40);
    my ($long, $none) = (0, 0);

    is(scalar @_, 40, 'spans');
    is(scalar @lines, 40, 'lines');

    for my $i (0 .. $#lines) {
        my $ids = ::ids($lines[$i]);

        if ($ids eq 'none') {
            $none++;
            next;
        }

        is($ids, ::ids_of($_[$i]), 'ids of line ' . length $lines[$i]);
        $long++ if length $lines[$i] >= 2045;
    }

    cmp_ok($long, '>', 5, 'though it was cut');
    cmp_ok($none, '<', 5, 'few have no room at all');
}



=== TEST 17: what the client does is told in the same way
--- http
server {
    listen unix:$TEST_NGINX_DIR/slow.sock;
    location / { echo_sleep 5; }
}
--- config
trace internal on;
trace_error_log internal;
location /t { client_body_buffer_size 1; proxy_pass http://127.0.0.1:1; }
location /left { proxy_pass http://unix:$TEST_NGINX_DIR/slow.sock; }
location /denied { deny all; }
--- span_count: 3
--- client eval
sub {
    ::talk("POST /t HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
           . "Content-Length: 5000\r\n\r\n" . 'x' x 5000);
    ::talk(::request('/denied'));
    ::talk("GET /left HTTP/1.1\r\nHost: a\r\nX: left\r\n\r\n", 0.2);
}
--- check_spans eval
sub {
    ::tell(qr/body is buffered/, ::span('POST /t', 'internal', @_));
    ::tell(qr/access forbidden/, ::span('GET /denied', 'internal', @_));
    ::tell(qr/client prematurely closed/,
           ::span('GET /left', 'internal', @_));
}



=== TEST 18: what is no pipeline is refused, with what to write
--- config
location /t { return 204; }
--- client eval
sub {
    my $nginx = Nginx->new;
    my $exporter = 'trace_exporter internal { endpoint unix:/s; }';

    my $value = 'invalid value "%s" in "trace_error_log", write "internal",'
        . ' "user" or "off"';
    my $number = 'invalid number of arguments in "trace_error_log"';

    for ((map { [$_, sprintf $value, s/"//gr] } qw(both on "" $arg_p)),
         ['', $number], ['internal user', $number],
         ['off; trace_error_log off',
          '"trace_error_log" directive is duplicate'])
    {
        my ($output, $ok) = $nginx->test(http => "$exporter
            trace_error_log $_->[0];");

        ok(!$ok, "$_->[0] is refused");
        like($output, qr/\Q$_->[1]\E/, 'and why');
    }

    for (qw(off internal user)) {
        my ($output, $ok) = $nginx->test(http => "$exporter
            trace_error_log $_;");

        ok($ok, "$_ is accepted") or diag $output;
    }
}

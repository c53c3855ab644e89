# What a response tells its client of the trace: trace_response_header, in both
# forms. What it tells is what is exported.

use strict;
use warnings;
use Nginx;
use Wire;

our $T = '0af7651916cd43dd8448eb211c80319c';
our $P = 'b7ad6b7169203331';
our $DIR = $ENV{TEST_NGINX_DIR};

my @heads;

# asks nginx for each of |@_|, a path or the bytes of a request, and keeps the
# heads of the responses; returns their status

sub main::ask {
    @heads = map { main::head(m{\A/} ? main::get($_) : main::talk($_)) } @_;

    return [map { m{\AHTTP/\S+ (\d+)} ? $1 : $_ } @heads];
}

sub main::head { return $_[0] =~ /\A(.*?\r\n)\r\n/s ? $1 : '' }

# the lines of a head that tell of a trace

sub main::told {
    return [$_[0] =~ /^((?:traceresponse|server-timing): .*?)\r$/gmi];
}

sub main::traceresponse {
    return 'traceresponse: ' . traceparent_of(shift);
}

sub main::server_timing {
    return 'Server-Timing: trace;desc="' . traceparent_of(shift) . '"';
}

# what each of the responses tells, one for each span of |@spans| by itself

sub main::tell {
    my @expected = @_;

    Test::More::is_deeply([map { main::told($_) } @heads], \@expected,
        'what the responses tell');
}

sub main::tell_spans {
    my ($form, @spans) = @_;
    my $line = main->can($form);

    main::tell(map { [$line->($_)] } @spans);
}

# those of a pipeline

sub main::requests {
    my ($pipeline, @spans) = @_;

    return grep {
        ($pipeline eq 'user') == exists $_->{headers}{'x-tenant'}
    } @spans;
}

# Both pipelines are on, with contexts of their own, unless a block says
# otherwise.

add_block_preprocessor(sub {
    my $block = shift;

    return if defined $block->http_config || defined $block->alone;

    $block->set_value('http', ($block->http || '') . <<'_EOC_');
        trace internal on;
        trace user on;
        trace_context internal propagate header=x-op-traceparent;
        trace_routing acme;
_EOC_
});

no_long_string();
run_tests();

__DATA__

=== TEST 1: traceresponse tells the ids of the user span by itself
--- config
trace_response_header traceresponse;
location /t { return 200 "ok\n"; }
--- span_count: 2
--- client eval
sub { is_deeply(::ask('/t'), [200], 'status') }
--- check_spans eval
sub {
    is($_[1]{headers}{'x-tenant'}, 'acme', 'the user span');
    ::tell_spans(traceresponse => $_[1]);
}



=== TEST 2: server-timing
--- config
trace_response_header server-timing;
location /t { return 200 "ok\n"; }
--- span_count: 2
--- client eval
sub { is_deeply(::ask('/t'), [200], 'status') }
--- check_spans eval
sub { ::tell_spans(server_timing => $_[1]) }



=== TEST 3: without the directive, and with off, nothing is told
--- config
location /t { return 200 "ok\n"; }
location /off { trace_response_header off; return 200 "ok\n"; }
--- span_count: 4
--- client eval
sub { is_deeply(::ask('/t', '/off'), [200, 200], 'status') }
--- check_spans eval
sub {
    is(scalar @_, 4, 'spans');
    ::tell([], []);
}



=== TEST 4: each pipeline, in each form
--- shows_internal: response
--- config
location /a { trace_response_header traceresponse internal; return 204; }
location /b { trace_response_header traceresponse user; return 204; }
location /c { trace_response_header server-timing internal; return 204; }
location /d { trace_response_header server-timing user; return 204; }
--- span_count: 8
--- client eval
sub { is_deeply(::ask(qw(/a /b /c /d)), [(204) x 4], 'status') }
--- check_spans eval
sub {
    my @internal = ::requests('internal', @_);
    my @user = ::requests('user', @_);

    ::tell([::traceresponse($internal[0])], [::traceresponse($user[1])],
           [::server_timing($internal[2])], [::server_timing($user[3])]);
}



=== TEST 5: without an exporter of user spans it is the internal pipeline's
--- shows_internal: response
--- http_config
trace_exporter internal { endpoint $TEST_NGINX_OTLP; interval 20ms; }
trace internal on;
trace_response_header traceresponse;
--- config
location /t { return 200 "ok\n"; }
--- client eval
sub { is_deeply(::ask('/t'), [200], 'status') }
--- check_spans eval
sub { ::tell_spans(traceresponse => @_) }



=== TEST 6: the default is the same if the exporter comes after the directive
--- http_config
trace_response_header traceresponse;
trace internal on;
trace_context internal propagate header=x-op-traceparent;
trace_exporter internal { endpoint $TEST_NGINX_OTLP; interval 20ms; }
trace_exporter user {
    endpoint $TEST_NGINX_OTLP;
    routing_header x-tenant;
    interval 20ms;
}
--- config
location /t { trace user on; trace_routing acme; return 200 "ok\n"; }
--- span_count: 2
--- client eval
sub { is_deeply(::ask('/t'), [200], 'status') }
--- check_spans eval
sub { ::tell_spans(traceresponse => $_[1]) }



=== TEST 7: a pipeline that does not record tells nothing
--- shows_internal: response
--- alone
--- config
trace_response_header traceresponse;
location /none { return 204; }
location /internal { trace internal on; return 204; }
location /variable {
    trace internal $arg_on;
    trace_response_header traceresponse internal;
    return 204;
}
--- span_count: 2
--- client eval
sub {
    is_deeply(::ask(qw(/none /internal /variable?on=0 /variable?on=1)),
              [(204) x 4], 'status');
}
--- check_spans eval
sub { ::tell([], [], [], [::traceresponse($_[1])]) }



=== TEST 8: the context of the client goes on, and its ids are told
--- shows_internal: response
--- alone
--- config
trace internal on;
trace_response_header traceresponse internal;
location /t { return 204; }
--- client eval
sub {
    ::ask("GET /t HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
          . "traceparent: 00-$::T-$::P-03\r\n\r\n");
}
--- check_spans eval
sub {
    my $span = shift;

    is($span->{trace_id}, $::T, 'trace-id');
    ::tell(["traceresponse: 00-$::T-$span->{span_id}-03"]);
}



=== TEST 9: it comes from the nearest level
--- shows_internal: response
--- http
trace_response_header traceresponse internal;
--- config
location /http { return 204; }
location /off {
    trace_response_header off;
    return 204;

    location /off/same { return 204; }
    location /off/on { trace_response_header server-timing; return 204; }
}
location /form {
    trace_response_header server-timing internal;
    return 204;

    location /form/default { trace_response_header traceresponse; return 204; }
}
location /if {
    if ($arg_a) { trace_response_header off; }
    return 204;
}
--- span_count: 16
--- client eval
sub {
    is_deeply(::ask(qw(/http /off /off/same /off/on /form /form/default /if
                    /if?a=1)), [(204) x 8], 'status');
}
--- check_spans eval
sub {
    my @internal = ::requests('internal', @_);
    my @user = ::requests('user', @_);

    ::tell([::traceresponse($internal[0])], [], [],
           [::server_timing($user[3])], [::server_timing($internal[4])],
           [::traceresponse($user[5])], [::traceresponse($internal[6])], []);
}



=== TEST 10: that of a server replaces that of http
--- http
trace_response_header traceresponse internal;
--- config
trace_response_header server-timing user;
location /t { return 204; }
--- span_count: 2
--- client eval
sub { ::ask('/t') }
--- check_spans eval
sub { ::tell_spans(server_timing => $_[1]) }



=== TEST 11: responses of every status, with a body and without
--- shows_internal: response
--- config
trace_response_header traceresponse internal;
location /204 { return 204; }
location /301 { return 301 /there; }
location /401 { return 401; }
location /403 { deny all; }
location /404 { try_files /nosuch =404; }
location /413 { client_max_body_size 1; proxy_pass http://127.0.0.1:1; }
location /500 { return 500; }
location /502 { proxy_pass http://127.0.0.1:1; }
location /503 { error_page 503 /page; return 503; }
location /page { return 200 "page\n"; }
location /dir/ { proxy_pass http://127.0.0.1:1; }
location /file { try_files /t.txt =404; }
--- user_files
>>> t.txt
text
--- span_count: 24
--- client eval
sub {
    my $more = "Host: a\r\nConnection: close\r\n";
    my $since = 'If-Modified-Since: Fri, 31 Dec 2100 00:00:00 GMT';

    is_deeply(::ask(qw(/204 /301 /401 /403 /404 /500 /502 /503 /dir),
        "POST /413 HTTP/1.1\r\n${more}Content-Length: 2\r\n\r\nab",
        "HEAD /file HTTP/1.1\r\n$more\r\n",
        "GET /file HTTP/1.1\r\n$more$since\r\n\r\n"),
        [204, 301, 401, 403, 404, 500, 502, 503, 301, 413, 200, 200],
        'status');
}
--- check_spans eval
sub { ::tell_spans(traceresponse => ::requests('internal', @_)) }
--- error_log
access forbidden by rule
connect() failed



=== TEST 12: 304, which has few headers
--- shows_internal: response
--- config
trace_response_header traceresponse internal;
location /file { if_modified_since before; try_files /t.txt =404; }
--- user_files
>>> t.txt
text
--- span_count: 2
--- client eval
sub {
    is_deeply(::ask("GET /file HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
        . "If-Modified-Since: Fri, 31 Dec 2100 00:00:00 GMT\r\n\r\n"), [304],
        'status');
}
--- check_spans eval
sub { ::tell_spans(traceresponse => $_[0]) }



=== TEST 13: what is answered before any location is asked
--- shows_internal: response
--- config
client_header_buffer_size 1k;
large_client_header_buffers 2 1k;
trace_response_header server-timing internal;
return 418;
--- span_count: 8
--- client eval
sub {
    is_deeply(::ask('/t', "GET /t HTTP/1.1\r\n\r\n", "garbage\r\n\r\n",
        'GET /' . 'x' x 3000 . " HTTP/1.1\r\nHost: a\r\n\r\n"),
        [418, 400, 400, 414], 'status');
}
--- check_spans eval
sub { ::tell_spans(server_timing => ::requests('internal', @_)) }
--- error_log
client sent



=== TEST 14: HTTP/0.9 has no head, and closing has no response
--- config
trace_response_header traceresponse;
location /t { return 200 "ok\n"; }
location /444 { return 444; }
--- span_count: 4
--- client eval
sub {
    is(talk("GET /t\r\n"), "ok\n", 'a body');
    is(get('/444'), '', 'nothing');
}
--- check_spans eval
sub { is(scalar @_, 4, 'spans') }



=== TEST 15: HTTP/2
--- http
server {
    listen unix:$TEST_NGINX_DIR/h2.sock http2;
    location /t { trace_response_header traceresponse; return 200 "ok\n"; }
    location /u { trace_response_header server-timing; return 204; }
}
--- config
location /t { return 204; }
--- span_count: 4
--- client eval
sub {
    ::connection();                 # waits until nginx listens
    my $curl = 'curl -s --max-time 5 -o /dev/null -D -'
        . " --http2-prior-knowledge --unix-socket $::DIR/h2.sock";
    $::heads = `$curl http://a/t; $curl http://a/u`;
}
--- check_spans eval
sub {
    my @user = ::requests('user', @_);

    is_deeply(::told($::heads), [::traceresponse($user[0]),
        lc ::server_timing($user[1])], 'both forms');
}



=== TEST 16: one for a request that is redirected, by the location that answers
--- shows_internal: response
--- http
server {
    listen unix:$TEST_NGINX_DIR/accel.sock;
    trace internal off;
    trace user off;
    add_header X-Accel-Redirect /page;
    return 200;
}
--- config
trace_response_header traceresponse internal;
location /error { error_page 404 /page; return 404; }
location /named { error_page 404 = @named; return 404; }
location /rewrite { rewrite ^ /page last; }
location /accel { proxy_pass http://unix:$TEST_NGINX_DIR/accel.sock; }
location /off { trace_response_header off; try_files /nosuch @named; }
location /to_off { try_files /nosuch @off; }
location /page { return 200 "page\n"; }
location @named { trace_response_header server-timing internal; return 204; }
location @off { trace_response_header off; return 204; }
--- span_count: 12
--- client eval
sub {
    is_deeply(::ask(qw(/error /named /rewrite /accel /off /to_off)),
              [404, 204, 200, 200, 204, 204], 'status');
}
--- check_spans eval
sub {
    my @internal = ::requests('internal', @_);

    ::tell([::traceresponse($internal[0])], [::server_timing($internal[1])],
           (map { [::traceresponse($_)] } @internal[2, 3]),
           [::server_timing($internal[4])], []);
}



=== TEST 17: the ids are told though they were not needed before
--- shows_internal: response
--- alone
--- config
location /off { try_files /nosuch @on; }
location @on {
    trace internal on;
    trace_context internal ignore;
    trace_response_header traceresponse internal;
    return 204;
}
--- client eval
sub { is_deeply(::ask('/off'), [204], 'status') }
--- check_spans eval
sub { ::tell_spans(traceresponse => @_) }



=== TEST 18: subrequests tell nothing
--- shows_internal: response
--- config
ssi_types *;
addition_types *;
location /t {
    trace_response_header traceresponse internal;
    auth_request /auth;
    mirror /sub;
    add_before_body /sub;
    ssi on;
    try_files /ssi.txt =404;
}
location /only_sub { ssi on; try_files /ssi.txt =404; }
location /auth { trace_response_header server-timing; return 204; }
location /sub { trace_response_header traceresponse internal; return 200 s; }
--- user_files
>>> ssi.txt
<!--#include virtual="/sub" -->x
--- span_count: 4
--- client eval
sub { is_deeply(::ask(qw(/t /only_sub)), [200, 200], 'status') }
--- check_spans eval
sub {
    is(scalar @_, 4, 'spans');
    ::tell([::traceresponse(::requests('internal', @_))], []);
}



=== TEST 19: the upstream's own traceresponse gives way, and stays where off
--- shows_internal: response
--- http
server {
    listen unix:$TEST_NGINX_DIR/told.sock;
    trace internal off;
    trace user off;
    add_header TraceResponse 00-of-the-upstream;
    add_header TraceResponse 00-of-another;
    add_header Server-Timing "db;dur=53";
    add_header Server-Timing "trace;desc=upstream";
    return 200;
}
--- config
location /on {
    trace_response_header traceresponse internal;
    proxy_pass http://unix:$TEST_NGINX_DIR/told.sock;
}
location /timing {
    trace_response_header server-timing internal;
    proxy_pass http://unix:$TEST_NGINX_DIR/told.sock;
}
location /off { proxy_pass http://unix:$TEST_NGINX_DIR/told.sock; }
location /untraced {
    trace internal off;
    trace_response_header traceresponse internal;
    proxy_pass http://unix:$TEST_NGINX_DIR/told.sock;
}
--- span_count: 7
--- client eval
sub { is_deeply(::ask(qw(/on /timing /off /untraced)), [(200) x 4], 'status') }
--- check_spans eval
sub {
    my @internal = ::requests('internal', @_);
    my @timing = ('Server-Timing: db;dur=53',
                  'Server-Timing: trace;desc=upstream');
    my @theirs = ('TraceResponse: 00-of-the-upstream',
                  'TraceResponse: 00-of-another');

    ::tell([@timing, ::traceresponse($internal[0])],
           [@theirs, @timing, ::server_timing($internal[1])],
           [@theirs, @timing], [@theirs, @timing]);
}



=== TEST 20: a response from the cache tells of the request that it answers
--- shows_internal: response
--- http
proxy_cache_path $TEST_NGINX_SERVROOT/cache keys_zone=cache:1m;
--- config
trace_response_header traceresponse internal;
location /t {
    proxy_cache cache;
    proxy_cache_valid 1m;
    proxy_pass http://unix:$TEST_NGINX_DIR/http.sock;
}
--- span_count: 4
--- client eval
sub { is_deeply(::ask('/t', '/t'), [200, 200], 'status') }
--- check_spans eval
sub {
    ::tell_spans(traceresponse => ::requests('internal', @_));
}



=== TEST 21: what is no form and no pipeline is refused, with what to write
--- config
location /t { return 204; }
--- client eval
sub {
    my $nginx = Nginx->new;
    my $exporter = 'trace_exporter internal { endpoint unix:/s; }';

    my $value = 'invalid value "%s" in "trace_response_header", write "off",'
        . ' "server-timing" or "traceresponse"';
    my $pipeline = 'invalid pipeline "%s" in "trace_response_header", write'
        . ' "internal" or "user"';
    my $number = 'invalid number of arguments in "trace_response_header"';

    for ((map { [$_, sprintf $value, s/"//gr] }
            qw(on Traceresponse "" $arg_form)),
         ['traceresponse both', sprintf $pipeline, 'both'],
         ['server-timing ""', sprintf $pipeline, ''],
         ['', $number], ['traceresponse user x', $number],
         ['off; trace_response_header off',
          '"trace_response_header" directive is duplicate'])
    {
        my ($output, $ok) = $nginx->test(http => "$exporter
            trace_response_header $_->[0];");

        ok(!$ok, "$_->[0] is refused");
        like($output, qr/\Q$_->[1]\E/, 'and why');
    }

    for (qw(off server-timing traceresponse), 'traceresponse user') {
        my ($output, $ok) = $nginx->test(http => "$exporter
            trace_response_header $_;");

        ok($ok, "$_ is accepted") or diag $output;
    }
}

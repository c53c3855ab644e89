# Spans that other modules open with ngx_http_trace_api.h: those of the example
# in docs/example, and what t/modules does with all that the header allows and
# forbids.

use strict;
use warnings;

BEGIN {
    my $build = $ENV{TEST_BUILD} || 'build';

    $ENV{TEST_NGINX_LOAD_MODULES} .= join '',
        map { " $build/ngx_http_trace_${_}_module.so" } qw(example test)
            if $ENV{TEST_NGINX_LOAD_MODULES};
}

use JSON::PP;
use Wire;

# what the calls have said so far

sub main::said { (split /\r\n\r\n/, get('/said'))[1] }

# the custom spans of the internal pipeline, by name

sub main::custom {
    return map { ($_->{name} => $_) }
        grep { $_->{kind} eq 'INTERNAL' && !exists $_->{headers}{'x-tenant'} }
            @_;
}

# what a span has dropped

sub main::dropped {
    my $span = shift;

    return join ' ', map { $span->{"dropped_${_}_count"} }
        qw(attributes events);
}

# how many spans were too many of a request

sub main::too_many {
    my ($json) = get('/status') =~ /\r\n\r\n(\{.*\})/s;

    return decode_json($json)->{internal}{spans_dropped}{request_limit};
}

# The page shows what the example does, and has each function of the header.

{
    my ($page, $header, $example) = map {
        open my $in, '<', $_ or die "$_: $!\n";
        local $/;
        scalar <$in>;
    } qw(docs/c-api.md ngx_module/ngx_http_trace_api.h
        docs/example/ngx_http_trace_example_module.c);

    for my $code ($page =~ /^```c\n(.*?)^```$/msg) {
        Test::More::ok(index($example, $code) >= 0,
            'docs/c-api.md shows what is in docs/example')
                or Test::More::diag($code);
    }

    $header =~ s{/\*.*?\*/}{}sg;
    s/\s+/ /g for $page, $header;

    for my $function ($header =~ /(ngx_\w+ [ ] ngx_http_trace_\w+\([^)]*\);
                                   |void [ ] ngx_http_trace_\w+\([^)]*\);)/xg)
    {
        Test::More::ok(index($page, $function) >= 0,
            "docs/c-api.md has $function");
    }
}

both_record("proxy_next_upstream error http_503;\n");

add_block_preprocessor(sub {
    my $block = shift;

    $block->set_value('config', <<'_EOC_' . ($block->config // ''));
location /said { trace internal off; trace user off; span_said; }
location /status { trace internal off; trace user off; trace_status format=json; }
_EOC_
});

no_long_string();
no_shuffle();
run_tests();

__DATA__

=== TEST 1: the example makes a request wait, and says so
--- config
location /t {
    example_wait 100ms;
    proxy_pass http://$TEST_NGINX_UPSTREAM:/;
}
--- client eval
sub { get('/t') }
--- tree
both:
SERVER GET /t 200
  INTERNAL wait example.wait=100 example.method=GET events=- status=UNSET
  CLIENT GET 200
--- check_spans eval
sub {
    my ($span) = map { $_->{end_time_unix_nano} - $_->{start_time_unix_nano} }
        grep { $_->{name} eq 'wait' } @_;

    cmp_ok($span, '>=', 99e6, 'the span is as long as the request waits');
    cmp_ok($span, '<', 1e9, 'and not longer');
}



=== TEST 2: the example, with a client that does not wait
--- config
location /t { example_wait 2s; proxy_pass http://$TEST_NGINX_UPSTREAM:/; }
--- client eval
sub { talk("GET /t HTTP/1.1\r\nHost: a\r\n\r\n", 0.1) }
--- tree
both:
SERVER GET /t error=client_closed
  INTERNAL wait example.wait=2000



=== TEST 3: an attribute of each type, a status, another name
--- config
location /t {
    span access open 0 first;
    span access set 0 string=stext int=i-9223372036854775808 double=d0.25;
    span access set 0 true=b1 false=b0 empty=s number=d1e300;
    span access status 0 2;
    span access rename 0 "the second";
    span access close 0;
    echo ok;
}
--- client eval
sub { get('/t') }
--- tree
both:
SERVER GET /t 200
  INTERNAL the second string=text int=-9223372036854775808 double=0.25 true=true false=false number=1e+300 status=ERROR events=-
--- check_spans eval
sub { is({main::custom(@_)}->{'the second'}{attributes}{empty}, '',
         'an empty text is a value') }



=== TEST 4: events, with their attributes and in their order
--- config
location /t {
    span access open 0 work;
    span access event 0 begun;
    span access event 0 half n=i1 text=shalf;
    span access set 0 between=i1;
    span access event 0 done;
    span access close 0;
    echo ok;
}
--- client eval
sub { get('/t') }
--- tree
both:
SERVER GET /t 200
  INTERNAL work between=1
    * begun
    * half n=1 text=half
    * done



=== TEST 5: the version, and who records: both, one of them, nobody
--- config
location /both { span access version; span access recording; echo ok; }
location /user { trace internal off; span access recording; echo ok; }
location /none {
    trace internal off; trace user off; span access recording; echo ok;
}
location /no { trace internal ratio=0; trace user off;
    span access recording; echo ok; }
--- client eval
sub {
    get($_) for qw(/both /user /none /no);
    is(main::said(), 'version=1 recording=3 recording=2 recording=0 recording=0 ',
       'said');
}
--- tree
internal:
SERVER GET /both 200
user:
SERVER GET /both 200
SERVER GET /user 200



=== TEST 6: in one pipeline, what is below hangs below its parent in the other
--- config
location /t {
    span access open 0 operators 1;
    span access current 0;
    span access open 1 tenants 2;
    span access current 1;
    span access open 2 boths 3;
    span access current 2;
    span access open 3 nobodys 0;
    proxy_pass http://$TEST_NGINX_UPSTREAM:/;
}
--- client eval
sub { get('/t') }
--- tree
internal:
SERVER GET /t 200
  INTERNAL operators
    INTERNAL boths
      CLIENT GET 200
user:
SERVER GET /t 200
  INTERNAL tenants
    INTERNAL boths
      CLIENT GET 200



=== TEST 7: only the pipeline that records has it
--- trace: trace user on;
--- config
location /t {
    span access open 0 operators 1;
    span access zero 0;
    span access open 1 boths;
    span access current 1;
    proxy_pass http://$TEST_NGINX_UPSTREAM:/;
}
--- client eval
sub { get('/t'); is(main::said(), 'zero=1 ', 'none is opened for the other') }
--- tree
user:
SERVER GET /t 200
  INTERNAL boths
    CLIENT GET 200



=== TEST 8: nothing internal gets out
--- trace: trace internal on; trace user on;
--- config
location /t {
    span access open 0 INTERNAL-MARKER-span 1;
    span access set 0 INTERNAL-MARKER-key=sINTERNAL-MARKER-text;
    span access event 0 INTERNAL-MARKER-event INTERNAL-MARKER-k=sINTERNAL-MARKER-v;
    span access current 0;
    span access open 1 tenants 2;
    span access rename 0 INTERNAL-MARKER-name;
    span access current 1;
    proxy_pass http://$TEST_NGINX_UPSTREAM:/;
}
--- client eval
sub { get('/t') }
--- tree
internal:
SERVER GET /t 200
  INTERNAL INTERNAL-MARKER-name
    CLIENT GET 200
user:
SERVER GET /t 200
  INTERNAL tenants
    CLIENT GET 200



=== TEST 9: current spans are nested, and each is followed by its parent
--- config
location /t {
    span access open 0 outer;
    span access current 0;
    span access open 1 inner;
    span access current 1;
    span access open 2 innermost;
    span access close 2;
    span access close 1;
    span access open 3 "behind inner";
    span access close 0;
    span access open 4 "behind outer";
    echo ok;
}
--- client eval
sub { get('/t') }
--- tree
both:
SERVER GET /t 200
  INTERNAL outer
    INTERNAL inner
      INTERNAL innermost
    INTERNAL behind inner may-outlive
  INTERNAL behind outer



=== TEST 10: an outer span that is closed first leaves the inner one current
--- config
location /t {
    span access open 0 outer;
    span access current 0;
    span access open 1 inner;
    span access current 1;
    span access close 0;
    span access open 2 "below inner";
    span access close 1;
    span access open 3 "below nobody";
    echo ok;
}
--- client eval
sub { get('/t') }
--- tree
both:
SERVER GET /t 200
  INTERNAL outer
    INTERNAL inner outlives
      INTERNAL below inner outlives
  INTERNAL below nobody



=== TEST 11: the one before is made current again, also if it is closed by then
--- config
location /t {
    span access open 0 first;
    span access current 0;
    span access open 1 second;
    span access current 1 2;
    span access current 2 3;
    span access open 4 "below first";
    span access current 1;
    span access close 0;
    span access current 2 5;
    span access open 6 "below nobody";
    span access alive 3;
    span access alive 5;
    echo ok;
}
--- client eval
sub {
    get('/t');
    is(main::said(), 'alive=1 alive=1 ', 'the one before was told');
}
--- tree
both:
SERVER GET /t 200
  INTERNAL first
    INTERNAL second outlives
    INTERNAL below first outlives
  INTERNAL below nobody



=== TEST 12: none is current, then the request's own is
--- config
location /t {
    span access open 0 current;
    span access current 0;
    span access current - 1;
    span access open 2 own;
    span access current - 3;
    span access alive 1;
    span access zero 3;
    echo ok;
}
--- client eval
sub { get('/t'); is(main::said(), 'alive=1 zero=1 ', 'the one before') }
--- tree
both:
SERVER GET /t 200
  INTERNAL current
  INTERNAL own



=== TEST 13: a parent that is named, open or closed
--- config
location /t {
    span access open 0 current;
    span access current 0;
    span access open 1 open 3 -;
    span access open 2 parent 3 1;
    span access close 1;
    span access open 3 "of a closed one" 3 1;
    echo ok;
}
--- client eval
sub { get('/t') }
--- tree
both:
SERVER GET /t 200
  INTERNAL current
    INTERNAL open
      INTERNAL parent outlives
      INTERNAL of a closed one outlives



=== TEST 14: a span that was never closed ends with its request
--- config
location /t {
    span access open 0 open;
    proxy_pass http://$TEST_NGINX_UPSTREAM:/?pause=0.1&size=10;
}
--- client eval
sub { get('/t') }
--- tree
both:
SERVER GET /t 200
  INTERNAL open
  CLIENT GET 200
--- check_spans eval
sub {
    my %end = map { ("$_->{kind} $_->{headers}{'x-tenant'}"
                     => $_->{end_time_unix_nano}) }
        grep { exists $_->{headers}{'x-tenant'} } @_;

    is($end{'INTERNAL acme'}, $end{'SERVER acme'}, 'both end at once');
}



=== TEST 15: what is over does nothing: closed twice, set, renamed when closed
--- config
location /t {
    span access open 0 closed;
    span access close 0;
    span access set 0 late=i1;
    span access event 0 late;
    span access rename 0 late;
    span access status 0 2;
    span access alive 0;
    span access wait 50;
    span timer close 0;
    echo ok;
}
--- client eval
sub { get('/t'); is(main::said(), 'alive=0 ', 'it is not alive') }
--- tree
both:
SERVER GET /t 200
  INTERNAL closed late=- events=- status=UNSET
--- check_spans eval
sub {
    my ($closed) = grep { $_->{name} eq 'closed' } @_;

    cmp_ok($closed->{end_time_unix_nano} - $closed->{start_time_unix_nano},
           '<', 40e6, 'and ends where it was closed first');
}



=== TEST 16: numbers that nobody has given out, and 0
--- config
location /t {
    span access open 0 current;
    span access current 0;
    span access make 1 0 0;
    span access make 2 1 4000000000;
    span access make 3 77 0;
    span access make 4 4294967295 4294967295;
    span access make 5 0 1;
    span access close 1;            span access set 1 k=i1;
    span access close 2;            span access event 2 e;
    span access rename 3 x;         span access status 3 2;
    span access close 4;            span access set 4 k=i1;
    span access close 5;            span access alive 5;
    span access current 3 6;        span access alive 6;
    span access open 7 "below current" 3 4;
    echo ok;
}
--- client eval
sub { get('/t'); is(main::said(), 'alive=0 alive=1 ', 'alive') }
--- tree
both:
SERVER GET /t 200
  INTERNAL current events=- status=UNSET k=-
    INTERNAL below current



=== TEST 17: a span of a request that is over, in others and in a timer
--- config
location /first {
    span access open 0 first;
    span access later;
    span later event 0 late;
    span later set 0 late=i1;
    span later close 0;
    echo ok;
}
location /next {
    span access open 1 next;
    span access current 1;
    span access set 0 late=i1;
    span access event 0 late;
    span access close 0;
    span access alive 0;
    span access alive 1;
    span access current 0;
    span access open 2 below 3 0;
    echo ok;
}
--- client eval
sub {
    get('/first') for 1 .. 2;
    get('/next');
    get('/next');
    select undef, undef, undef, 0.1;
    is(main::said(), 'alive=0 alive=1 ' x 2, 'the first is not alive');
}
--- tree
both:
SERVER GET /first 200
  INTERNAL first late=- events=-
SERVER GET /first 200
  INTERNAL first late=- events=-
SERVER GET /next 200
  INTERNAL next late=- events=-
    INTERNAL below
SERVER GET /next 200
  INTERNAL next late=- events=-
    INTERNAL below



=== TEST 18: a span of another request that goes on is nobody's parent here
--- config
location /slow {
    span access open 0 slow;
    span access wait 300;
    echo ok;
}
location /t {
    span access open 1 own;
    span access current 1;
    span access current 0 2;
    span access alive 0;
    span access alive 2;
    span access open 3 below 3 0;
    echo ok;
}
--- client eval
sub {
    my $slow = connection();

    $slow->syswrite("GET /slow HTTP/1.0\r\n\r\n");
    select undef, undef, undef, 0.1;
    get('/t');
    1 while sysread $slow, my $response, 100;
    is(main::said(), 'alive=0 alive=1 ', 'nor current, nor alive here');
}
--- tree
both:
SERVER GET /t 200
  INTERNAL own
    INTERNAL below
SERVER GET /slow 200
  INTERNAL slow



=== TEST 19: tries and subrequests hang below what is current
--- config
location /t {
    span access open 0 page;
    span access current 0;
    auth_request /auth;
    proxy_pass http://$TEST_NGINX_UPSTREAM:/;
}
location /auth {
    span access open 1 never;
    span preaccess open 1 auth;
    span preaccess current 1;
    proxy_pass http://$TEST_NGINX_UPSTREAM:/?try=204;
}
--- client eval
sub { get('/t') }
--- tree
both:
SERVER GET /t 200
  INTERNAL page
    INTERNAL subrequest /auth 204
      INTERNAL auth
        CLIENT GET 204
    CLIENT GET 200



=== TEST 20: what is current in a subrequest is not so in its request
--- config
location /t {
    echo_location /sub;
    echo_location /sub;
}
location /sub {
    span rewrite open 0 "of the subrequest";
    span rewrite current 0 1;
    span rewrite zero 1;
    proxy_pass http://$TEST_NGINX_UPSTREAM:/;
}
--- client eval
sub { get('/t'); is(main::said(), 'zero=1 zero=1 ', 'none before') }
--- tree
both:
SERVER GET /t 200
  INTERNAL subrequest /sub 200
    INTERNAL of the subrequest
      CLIENT GET 200
  INTERNAL subrequest /sub 200
    INTERNAL of the subrequest
      CLIENT GET 200



=== TEST 21: one span is current in a request and its subrequest, and closed
--- config
location /t {
    span access open 0 shared;
    span access current 0;
    echo_location /sub;
    echo_location /next;
}
location /sub {
    span preaccess current 0;
    span preaccess open 1 below;
    span preaccess close 0;
    span preaccess open 2 "behind it";
    proxy_pass http://$TEST_NGINX_UPSTREAM:/;
}
location /next { proxy_pass http://$TEST_NGINX_UPSTREAM:/; }
--- client eval
sub { get('/t') }
--- tree
both:
SERVER GET /t 200
  INTERNAL shared
    INTERNAL subrequest /sub 200 outlives
      INTERNAL behind it
      CLIENT GET 200
    INTERNAL below outlives
  INTERNAL subrequest /next 200
    CLIENT GET 200



=== TEST 22: in every phase
--- config
span post_read open 0 post_read;            span post_read close 0;
span server_rewrite open 0 server_rewrite;  span server_rewrite close 0;
location /t {
    span rewrite open 0 rewrite;            span rewrite close 0;
    span preaccess open 0 preaccess;        span preaccess close 0;
    span access open 0 access;              span access close 0;
    span access wait 10;
    span timer open 0 timer;                span timer close 0;
    span balancer open 0 balancer;          span balancer close 0;
    span free open 0 free;                  span free close 0;
    span header open 0 header;              span header close 0;
    span log open 0 log;                    span log close 0;
    proxy_pass http://next/;
}
--- http
upstream next { server $TEST_NGINX_UPSTREAM; span_balancer; }
--- client eval
sub { get('/t?size=1') }
--- tree
both:
SERVER GET /t 200
  INTERNAL post_read
  INTERNAL server_rewrite
  INTERNAL rewrite
  INTERNAL preaccess
  INTERNAL access
  INTERNAL timer
  INTERNAL balancer
  CLIENT GET 200
  INTERNAL header
  INTERNAL free
  INTERNAL log



=== TEST 23: in a body filter
--- config
location /t {
    span body open 0 body;
    span body current 0;
    span body open 1 below;
    span body close 0;
    root html;
    try_files /index.html =404;
}
--- client eval
sub { get('/t') }
--- tree
both:
SERVER GET /t 200
  INTERNAL body
    INTERNAL below outlives



=== TEST 24: a span from before the decision, which is yes, no, or asked later
--- trace: map $arg_trace $wanted { default $arg_trace; }
--- config
span server_rewrite open 0 early;
span server_rewrite set 0 k=i1;
span server_rewrite current 0;
span server_rewrite recording;
trace internal $wanted;
trace user off;
location /t {
    span rewrite close 0;
    span preaccess recording;
    proxy_pass http://$TEST_NGINX_UPSTREAM:/;
}
location /off {
    trace internal off;
    span preaccess recording;
    proxy_pass http://$TEST_NGINX_UPSTREAM:/;
}
location /user {
    trace user on;
    span preaccess recording;
    proxy_pass http://$TEST_NGINX_UPSTREAM:/;
}
--- client eval
sub {
    get('/t?trace=1');
    is(main::said(), 'recording=1 recording=1 recording=1 ', 'a yes');
    get('/t?trace=0');
    get('/off?trace=1');
    get('/user?trace=1');
}
--- tree
internal:
SERVER GET /t 200
  INTERNAL early k=1
  CLIENT GET 200
SERVER GET /user 200
  INTERNAL early k=1
    CLIENT GET 200
user:
SERVER GET /user 200
  CLIENT GET 200



=== TEST 25: a span from before a ratio has said no, which may be kept
--- trace: trace internal ratio=0; trace user off; trace_keep $arg_keep;
--- config
location /t {
    span rewrite open 0 early;
    span rewrite close 0;
    span access recording;
    span access open 0 late;
    echo ok;
}
--- client eval
sub {
    get('/t', '/t?keep=1');
    is(main::said(), 'recording=1 recording=1 ', 'it may be recorded');
}
--- tree
SERVER GET /t 200
  INTERNAL early
  INTERNAL late



=== TEST 26: spans outlive a redirect, to where nothing is recorded as well
--- config
location /t {
    span access open 0 first;
    span access current 0;
    error_page 502 = /next;
    proxy_intercept_errors on;
    proxy_pass http://$TEST_NGINX_UPSTREAM:/?try=502;
}
location /next {
    trace internal off;
    trace user off;
    span rewrite recording;
    span rewrite open 1 second;
    span rewrite current 1 2;
    span rewrite alive 2;
    span access open 3 third;
    span access close 0;
    span access alive 1;
    proxy_pass http://$TEST_NGINX_UPSTREAM:/?try=200;
}
--- client eval
sub { get('/t'); is(main::said(), 'recording=3 alive=1 alive=1 ', 'said') }
--- tree
both:
SERVER GET /next 200
  INTERNAL first
    CLIENT GET 502 error=502
    INTERNAL second outlives
      INTERNAL third
      CLIENT GET 200



=== TEST 27: requests that end early: refused, given up, without a location
--- config
span server_rewrite open 0 early;
location /deny { span access open 1 access; deny all; }
location /return { span rewrite open 1 rewrite; return 204; }
location /wait { span access open 1 wait; span access wait 2000; echo ok; }
location /limit { client_max_body_size 1; span access open 1 no; echo ok; }
--- client eval
sub {
    get('/deny');
    get('/return');
    talk("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n", 0.1);
    talk("POST /limit HTTP/1.0\r\nHost: a\r\nContent-Length: 9\r\n\r\n");
    talk("GET / HTTP/1.1\r\n\r\n");
}
--- tree
both:
SERVER GET /deny 403
  INTERNAL early
  INTERNAL access
SERVER GET /return 204
  INTERNAL early
  INTERNAL rewrite
SERVER GET /wait error=client_closed
  INTERNAL early
  INTERNAL wait
SERVER POST /limit 413 http.request.method=POST
  INTERNAL early
SERVER GET 400
--- error_log
access forbidden by rule



=== TEST 28: a name is cut at the start of a character
--- config eval
my $n = 0;
my @names = ('n' x 64, 'n' x 65, 'n' x 63 . "\xc3\xa4", 'n' x 62 . "\xe2\x82\xac",
    'n' x 61 . "\xf0\x9f\x98\x80", 'n' x 62 . "\xc3\xa4" . 'n',
    "\xc3\xa4" x 32 . 'n', "\x80" x 70, '');

CORE::join '', 'location /t {', map({ "span access open $n '$_';
    span access event $n '$_'; span access close @{[$n++]};" } @names),
    'span access rename 0 ""; span access open 9 x; span access rename 9 "'
    . 'r' x 70 . '"; echo ok; }'
--- trace: trace internal on;
--- client eval
sub {
    get('/t');

    my @spans = sort { $a->{start_time_unix_nano} <=> $b->{start_time_unix_nano} }
        grep { $_->{kind} eq 'INTERNAL' } spans_until(11);
    my @expected = ('n' x 64, 'n' x 64, 'n' x 63, 'n' x 62, 'n' x 61,
        'n' x 62 . "\x{e4}", "\x{e4}" x 32, "\x{fffd}" x 61, '');

    is_deeply([map { $_->{name} } @spans], [@expected, 'r' x 64], 'names');
    is_deeply([map { map { $_->{name} } @{$_->{events}} } @spans],
              [grep { length } @expected], 'of events as well');
    is_deeply([map { main::dropped($_) } @spans],
              [('0 0') x 8, '0 1', '0 0'], 'an event needs a name');
}



=== TEST 29: keys that are none, and values of a type that is none, are dropped
--- config eval
my ($max, $over) = ('k' x 255, 'K' x 256);

"location /t {
    span access open 0 work;
    span access set 0 $max=i1 $over=i1 'a b=i1' '=i1' 'ä=i1' tab\\tkey=i1;
    span access set 0 'abcdefg hijk=i1' 'abcdefghijkl mn=i1' abcdefghijä=i1
        'äabcdefghijk=i1' 'abcdefghijk\x7f=i1' a~!bcdefghijk=i1;
    span access set 0 wrong=?1 right=i1;
    span access event 0 event $max=i1 $over=i1 'a b=i1' wrong=?1 right=i1;
    echo ok;
}"
--- trace: trace internal on;
--- client eval
sub {
    get('/t');

    my ($span) = grep { $_->{kind} eq 'INTERNAL' } spans_until(2);
    my %expected = ('k' x 255 => 1, right => 1);

    is_deeply($span->{attributes}, { %expected, 'a~!bcdefghijk' => 1 },
              'attributes of the span');
    is(main::dropped($span), '11 0', 'dropped');
    is_deeply($span->{events}[0]{attributes}, \%expected, 'of the event');
    is($span->{events}[0]{dropped_attributes_count}, 3, 'dropped there');
}



=== TEST 30: bytes that are no text
--- config
location /t {
    span access open 0 work;
    span access set 0 bytes=h61ff62c3 text=hc3a4;
    echo ok;
}
--- client eval
sub { get('/t') }
--- tree
both:
SERVER GET /t 200
  INTERNAL work
--- check_spans eval
sub { is_deeply({main::custom(@_)}->{work}{attributes},
    { bytes => "a\x{fffd}b\x{fffd}", text => "\x{e4}" }, 'values') }



=== TEST 31: a key that the span has gets the new value, of any type
--- config
location /t {
    span access open 0 work;
    span access set 0 a=i1 b=i2 c=i3;
    span access event 0 event a=i1 a=i2;
    span access set 0 b=sx300 a=sagain b=d2.5;
    span access set 0 c=i4;
    span access set 0 c=i5 c=i6;
    echo ok;
}
--- client eval
sub { get('/t') }
--- tree
both:
SERVER GET /t 200
  INTERNAL work a=again b=2.5 c=6 events=event
--- check_spans eval
sub { is(scalar keys %{{main::custom(@_)}->{work}{attributes}}, 3, 'no more') }



=== TEST 32: 128 attributes, of a span and of an event; the others are counted
--- config
location /t {
    span access open 0 full;
    span access sets 0 128;
    span access open 1 over;
    span access sets 1 130;
    span access set 1 k127=i7 k129=i7 k5=i7;
    span access crowded 1 128;
    span access crowded 1 131;
    echo ok;
}
--- trace: trace internal on;
--- client eval
sub { get('/t') }
--- tree
SERVER GET /t 200
  INTERNAL full k127=127 k128=-
  INTERNAL over k127=7 k5=7 k128=- k129=- events=crowded,crowded
--- check_spans eval
sub {
    my %span = main::custom(@_);
    my @events = @{$span{over}{events}};

    is(scalar keys %{$span{$_}{attributes}}, 128, $_) for keys %span;
    is(main::dropped($span{full}), '0 0', 'nothing is over');
    is(main::dropped($span{over}), '3 0', 'three are');
    is(scalar keys %{$_->{attributes}}, 128, 'of an event') for @events;
    is_deeply([map { $_->{dropped_attributes_count} } @events], [0, 3],
              'dropped of events');
}



=== TEST 33: 64 events; the others are counted
--- config
location /t {
    span access open 0 full;
    span access events 0 64;
    span access set 0 k=i1;
    span access open 1 over;
    span access events 1 64;
    span access event 1 more k=i1;
    span access events 1 5;
    span access set 1 k=i1;
    echo ok;
}
--- trace: trace internal on;
--- client eval
sub { get('/t') }
--- tree
SERVER GET /t 200
  INTERNAL full k=1
  INTERNAL over k=1
--- check_spans eval
sub {
    my %span = main::custom(@_);

    is(scalar @{$span{$_}{events}}, 64, $_) for keys %span;
    is(main::dropped($span{full}), '0 0', 'nothing is over');
    is(main::dropped($span{over}), '0 6', 'six are');
}



=== TEST 34: 64 KiB of one span; what does not fit is left out, and counted
--- config
location /t {
    span access open 0 whole;
    span access set 0 text=x65000 k=i1;
    span access open 1 over;
    span access set 1 first=x40000 second=x40000 k=i1;
    span access event 1 little;
    span access event 1 large text=x40000 k=i2;
    span access set 1 first=x60000 second=x10;
    span access open 2 "far over";
    span access set 2 text=x70000 huge=x9000000 k=i1;
    span access open 3 head;
    span access set 3 text=x65500 last=i1;
    echo ok;
}
--- trace: trace internal on;
--- client eval
sub { get('/t') }
--- tree
SERVER GET /t 200
  INTERNAL whole k=1 events=-
  INTERNAL over k=1 events=little,large
  INTERNAL far over k=1 text=- huge=-
  INTERNAL head text=- last=1
--- check_spans eval
sub {
    my %span = main::custom(@_);

    is(length $span{whole}{attributes}{text}, 65000, 'one that fits');
    is(main::dropped($span{whole}), '0 0', 'nothing is over');
    is(length $span{over}{attributes}{first}, 60000, 'a new value that fits');
    is($span{over}{attributes}{second}, 'x' x 10, 'one that did not before');
    is_deeply($span{over}{events}[1]{attributes}, { k => 2 }, 'of an event');
    is(main::dropped($span{over}), '1 0', 'the second is over');
    is($span{over}{events}[1]{dropped_attributes_count}, 1, 'in the event');
    is(main::dropped($span{'far over'}), '2 0', 'two are far over');
    is(main::dropped($span{head}), '1 0', 'the head of a span needs room too');
}



=== TEST 35: 1 MiB of one request
--- config eval
CORE::join '', 'location /t {',
    map({ "span access open 0 s$_; span access set 0 text=x60000 k=i1;" }
        1 .. 20), 'echo ok; }'
--- trace: trace internal on;
--- exporter: queue 16m;
--- client eval
sub {
    get('/t', '/t');

    my @spans = grep { $_->{kind} eq 'INTERNAL' } spans_until(42);
    my @texts = grep { exists $_->{attributes}{text} } @spans;
    my @little = grep { !exists $_->{attributes}{text} } @spans;
    my %left = (k => 1);

    is(scalar @texts, 32, '16 spans of a request have 64 KiB each');
    is(scalar @little, 8, 'and four have what little ones have anyway');
    is_deeply($_->{attributes}, \%left, 'the rest') for @little;
    is(main::dropped($_), '1 0', 'which they count') for @little;
}



=== TEST 36: 1,000 spans of one request; the others are counted elsewhere
--- config
location /t {
    span access open 0 first;
    span access opens 1000;
    span access open 1 "too much";
    span access zero 1;
    span access current 0;
    proxy_pass http://$TEST_NGINX_UPSTREAM:/;
}
--- trace: trace internal on;
--- exporter: queue 16m;
--- client eval
sub {
    get('/t');

    my @spans = spans_until(1001);
    my ($first) = grep { $_->{name} eq 'first' } @spans;
    my ($request) = main::upstream()->requests(1);
    my ($sent) = map { $_->[1] } grep { $_->[0] eq 'x-op-traceparent' }
        @{$request->{headers}};

    is(scalar @spans, 1001, 'with that of the request');
    is(main::said(), 'zero=1 ', 'none is given');
    like($sent, qr/-$first->{span_id}-/, 'the upstream gets the current one');
    is(main::too_many(), 3, 'counted');
}



=== TEST 37: many requests at once, each with spans of its own
--- config
location /t {
    span access open 0 one;
    span access current 0;
    span access open 1 two;
    proxy_pass http://$TEST_NGINX_UPSTREAM:/?pause=0.2&size=5;
}
--- trace: trace internal on;
--- client eval
sub {
    my @clients = map { connection() } 1 .. 25;

    $_->syswrite("GET /t HTTP/1.0\r\n\r\n") for @clients;
    for my $client (@clients) { 1 while sysread $client, my $response, 999 }

    my %span = map { ($_->{span_id} => $_) } spans_until(100);
    my %parents = ('one' => 'GET /t', 'two' => 'one', 'GET' => 'one');

    is(scalar keys %span, 100, 'spans');
    is(scalar(grep {
        my $parent = $span{$_->{parent_span_id} // ''};

        $parent ? $parent->{trace_id} ne $_->{trace_id}
            || $parent->{name} ne $parents{$_->{name}} : $_->{name} ne 'GET /t'
    } values %span), 0, 'each below its own');
}



=== TEST 38: requests that nothing records, between others that are
--- trace: map $arg_trace $wanted { default $arg_trace; }
--- config
trace internal $wanted;
location /t {
    span access open 0 work;
    span access set 0 k=i1;
    span access event 0 e;
    span access rename 0 other;
    span access status 0 2;
    span access current 0;
    span access alive 0;
    span access close 0;
    echo ok;
}
--- client eval
sub {
    get('/t', '/t?trace=1', '/t', '/t?trace=1');
    is(main::said(), 'alive=0 alive=1 ' x 2, 'said');
}
--- tree
SERVER GET /t 200
  INTERNAL other k=1 status=ERROR events=e
SERVER GET /t 200
  INTERNAL other k=1 status=ERROR events=e



=== TEST 39: beside trace_span: above it, below it, and where it records nothing
--- trace: trace internal on;
--- config
location /t {
    trace_span location;
    span rewrite open 0 above;
    span rewrite current 0;
    span access open 1 below;
    span access current 1;
    proxy_pass http://$TEST_NGINX_UPSTREAM:/;
}
location /user {
    trace_span location user;
    span rewrite open 0 above;
    span rewrite current 0;
    proxy_pass http://$TEST_NGINX_UPSTREAM:/;
}
location /redirected {
    trace_span location;
    span access open 0 "goes on";
    span access current 0;
    error_page 502 = @next;
    proxy_intercept_errors on;
    proxy_pass http://$TEST_NGINX_UPSTREAM:/?try=502;
}
location @next { proxy_pass http://$TEST_NGINX_UPSTREAM; }
--- client eval
sub { get($_) for qw(/t /user /redirected) }
--- tree
SERVER GET /t 200
  INTERNAL above
    INTERNAL location
      INTERNAL below
        CLIENT GET 200
SERVER GET /user 200
  INTERNAL above
    CLIENT GET 200
SERVER GET @next 200
  INTERNAL location
    INTERNAL goes on outlives
      CLIENT GET 502 error=502
      CLIENT GET 200



=== TEST 40: a subrequest that is over, and a span that it has left open
--- config
location /t {
    echo_location /sub;
    echo_sleep 0.1;
    echo_location /next;
}
location /sub { span rewrite open 0 "left open"; echo ok; }
location /next {
    span rewrite alive 0;
    span rewrite open 1 child 3 0;
    echo ok;
}
--- client eval
sub { get('/t'); is(main::said(), 'alive=0 ', 'it is over') }
--- tree
both:
SERVER GET /t 200
  INTERNAL subrequest /sub 200
    INTERNAL left open
      INTERNAL child outlives
  INTERNAL subrequest /next 200



=== TEST 41: a span that is opened when the response is over, and left open
--- config
location /t {
    mirror /mirror;
    span log open 0 late;
    proxy_pass http://$TEST_NGINX_UPSTREAM:/;
}
location /mirror { trace_subrequests off; echo_sleep 0.1; echo ok; }
--- client eval
sub { get('/t') }
--- tree
both:
SERVER GET /t 200
  CLIENT GET 200
  INTERNAL late outlives

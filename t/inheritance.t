# What a location gets of the levels around it: each directive in http, server,
# location, nested location, if and named location.
#
#   --- levels eval          one directive, on all levels; a hash:
#
#   line      the directive; VALUE is replaced by one of
#   values    two values, of which each level has another one than that around
#             it, and one that takes them back
#   seen      sub { my ($response, @spans) = @_; ... }: of a request, what tells
#             the values apart; its own span is the first
#   shows     what that returns for the three
#   named     which of them counts where try_files leads to a named location, in
#             the first and the second server, or what is shown; by itself that
#             of the location
#   content   what answers, by itself an upstream that shows what it gets
#   by        a location that asks for $arg_to as a subrequest
#
# Both pipelines continue the trace of the client: of their trace-ids, the
# internal ones are all a, the user's all b.

use strict;
use warnings;
use Wire;

our %TRACE = (internal => 'a' x 32, user => 'b' x 32);

# of a request as the upstream got it, the value of a header; its headers are
# lines behind the response

sub main::got {
    my ($response, $name) = @_;

    return $response =~ /^> \Q$name\E: (.*)$/mi ? $1 : undef;
}

# how many spans there are of a kind

sub main::kind {
    my ($kind, undef, @spans) = @_;

    return scalar grep { $_->{kind} eq $kind } @spans;
}

# Of both servers, the paths and which of the values counts there. The first
# server has the first value from http, the other one has the second itself.

sub rows {
    my $server = shift;
    my $other = 1 - $server;

    return (
        ['/inherit', $server], ['/set', $other], ['/set/inherit', $other],
        ['/set/set', $server], ['/set/reset', 2], ['/reset', 2],
        ['/if', $server], ['/if?if=1', $other], ['/both', $other],
        ['/both?if=1', $server], ['/if-reset?if=1', 2], ['/named', $other],
    );
}

sub locations {
    my ($levels, $server) = @_;
    my $content = $levels->{content} // 'proxy_pass http://upstream;';
    my ($same, $other, $reset) = map { $levels->{line} =~ s/VALUE/$_/r }
        @{$levels->{values}}[$server, 1 - $server, 2];

    return ($server ? $same : '') . ($levels->{by} // '') . <<"_EOC_";
location /inherit { $content }
location /set {
    $other
    $content
    location /set/inherit { $content }
    location /set/set { $same $content }
    location /set/reset { $reset $content }
}
location /reset { $reset $content }
location /if { if (\$arg_if) { $other } $content }
location /both { $other if (\$arg_if) { $same } $content }
location /if-reset { if (\$arg_if) { $reset } $content }
location /named { try_files /nosuch \@named; }
location \@named { $other $content }
location = /last {
    trace internal on;
    trace user on;
    trace_routing last;
    trace_span_name last;
    trace_upstream both;
    return 204;
}
_EOC_
}

sub http {
    my $levels = shift;

    return ($levels->{line} =~ s/VALUE/$levels->{values}[0]/r)
        . <<'_EOC_' . locations($levels, 1) . "}\n";

trace_trusted internal all;
add_header x-ids "$internal_trace_id.$user_trace_id" always;
upstream upstream { server $TEST_NGINX_UPSTREAM; }
server {
    listen unix:$TEST_NGINX_DIR/second.sock;
_EOC_
}

# Asks for all, one by one, then for what is exported last. Spans belong to a
# response by its trace-ids.

sub run_levels {
    my ($levels, $name) = @_;
    my ($n, @asked, %spans, $last) = 0;

    for my $server (0, 1) {
        for my $row (rows($server)) {
            my ($path, $value) = @$row;
            my $uri = $levels->{by} ? '/by?to=' . $path =~ s/\?/&/r : $path;

            $value = $levels->{named}[$server]
                if $levels->{named} && $path eq '/named';
            push @asked, { ask($uri, ++$n, $server),
                name => ($server ? 'second' : 'first') . " server: $path",
                value => $value };
        }
    }

    ask('/last', ++$n, 0);

    for (1 .. 50) {
        for (spans_until(1)) {
            $last += $_->{name} eq 'last';
            push @{$spans{$_->{trace_id}}}, $_;
        }
        last if $last == 2;
    }

    Test::More::is($last, 2, "$name - all spans");

    for my $request (@asked) {
        my @spans = sort { $b->{kind} cmp $a->{kind} }
            map { @{$spans{$_} // []} } @{$request->{ids}};
        my $shown = $levels->{seen}->($request->{response}, @spans);
        my $want = $request->{value};

        $want = $levels->{shows}[$want] if !ref $want;
        (ref $want ? \&Test::More::like : \&Test::More::is)
            ->($shown, $want, "$name - $request->{name}");
    }
}

sub ask {
    my ($uri, $n, $server) = @_;
    my ($internal, $user) = map { sprintf '%s%06x', substr($_, 6), $n }
        @TRACE{qw(internal user)};
    my $response = exchange(request($uri, 'x-a: 1', 'x-b: 2',
        'x-op-traceparent: 00-' . $internal . '-' . 'a' x 16 . '-01',
        'traceparent: 00-' . $user . '-' . 'b' x 16 . '-01'),
        $server ? "unix:$ENV{TEST_NGINX_DIR}/second.sock" : undef);
    my ($ids) = $response =~ /^x-ids: ([^\r]*)/m;

    $response .= received();
    return (response => $response, ids => [split /\./, $ids // '']);
}

sub main::received {
    return join '', map { "> $_->[0]: $_->[1]\n" }
        map { @{$_->{headers}} } upstream()->requests;
}

add_block_preprocessor(sub {
    my $block = shift;
    my $levels = $block->levels or return;

    $block->set_value('http', ($block->http // '') . http($levels));
    $block->set_value('config', locations($levels, 0));
    $block->set_value('shows_internal', 'response');
    $block->set_value('client', sub {
        connection();
        run_levels($levels, $block->name);
    });
});

no_long_string();
run_tests();

__DATA__

=== TEST 1: trace internal, on and off; a yes stays in a named location
--- http
trace_context internal propagate header=x-op-traceparent;
--- levels eval
{ line => 'trace internal VALUE;', values => ['on', 'off', 'off'],
  seen => sub { ::kind('SERVER', @_) }, shows => [1, 0, 0], named => [0, 0] }



=== TEST 2: trace internal, a ratio; a no stays, too
--- http
trace_context internal propagate header=x-op-traceparent;
--- levels eval
{ line => 'trace internal VALUE;', values => ['ratio=1', 'ratio=0', 'off'],
  seen => sub { ::kind('SERVER', @_) . ::got($_[0], 'x-op-traceparent') },
  shows => [qr/^100-a{26}.{6}-(?!a{16}).{16}-01$/,
            qr/^000-a{26}.{6}-a{16}-01$/, qr/^000-a{26}.{6}-a{16}-01$/],
  named => [0, 1] }



=== TEST 3: trace internal, other words
--- http
trace_context internal propagate header=x-op-traceparent;
--- levels eval
{ line => 'trace internal VALUE;',
  values => ['parent', 'ratio=0 $arg_none', '$arg_none'],
  seen => sub { ::kind('SERVER', @_) }, shows => [1, 0, 0], named => [0, 1] }



=== TEST 4: trace user
--- http
trace_context internal propagate header=x-op-traceparent;
trace_routing tenant;
--- levels eval
{ line => 'trace user VALUE;', values => ['on', 'off', '$arg_none'],
  seen => sub { ::kind('SERVER', @_) }, shows => [1, 0, 0],
  named => [0, 0] }



=== TEST 5: trace_context, the mode
--- http
trace internal on;
--- levels eval
{ line => 'trace_context internal VALUE header=x-op-traceparent;',
  values => ['extract', 'inject', 'ignore'],
  seen => sub { ::got($_[0], 'x-op-traceparent') . $_[1]{parent_span_id} },
  shows => [qr/^00-a{26}.{6}-a{16}-01a{16}\z/, qr/-(?!a{16}).{16}-03\z/,
      qr/^00-a{26}.{6}-a{16}-01\z/],

  # read where the request is decided, written where it leaves
  named => [qr/^00-a{26}.{6}-(?!a{16}).{16}-01a{16}\z/,
      qr/^00-a{26}.{6}-a{16}-01\z/] }



=== TEST 6: trace_context, the header
--- http
trace internal on;
--- levels eval
{ line => 'trace_context internal inject header=VALUEtraceparent;',
  values => ['x-1-', 'x-2-', 'x-3-'],
  seen => sub { "@{[ $_[0] =~ /^> (x-\d)-traceparent:/mg ]}" },
  shows => ['x-1', 'x-2', 'x-3'] }



=== TEST 7: trace_context, what is read
--- http
trace internal on;
map $host $one {
    default 00-11111111111111111111111111111111-1111111111111111-01;
}
map $host $two {
    default 00-22222222222222222222222222222222-2222222222222222-01;
}
--- levels eval
{ line => 'trace_context internal VALUE;',
  values => ['header=x-op-traceparent from=$one', 'from=$two',
      'header=x-op-traceparent'],
  seen => sub { ::got($_[0], 'x-op-traceparent') },
  shows => [qr/^00-1{32}-/, qr/^00-2{32}-/, qr/^00-a{26}/], named => [0, 1] }



=== TEST 8: trace_context, to whom
--- http
trace internal on;
upstream other { server unix:/nosuch; }
--- levels eval
{ line => 'trace_context internal to=VALUE header=x-op-traceparent;',
  values => ['upstream', 'other', 'all'],
  seen => sub { defined ::got($_[0], 'x-op-traceparent') ? 1 : 0 },
  shows => [1, 0, 1] }



=== TEST 9: trace_trusted
--- http
trace internal off;
trace user on;
trace_routing tenant;
trace_context internal propagate header=x-op-traceparent;
--- levels eval
{ line => 'trace_trusted user VALUE;', values => ['all', '192.0.2.1',
      '127.0.0.0/8 unix:'],
  seen => sub { $_[1]{parent_span_id} }, shows => ['b' x 16, '', 'b' x 16],
  named => [0, 1] }



=== TEST 10: trace_routing
--- http
trace user on;
trace_context internal propagate header=x-op-traceparent;
--- levels eval
{ line => 'trace_routing VALUE;', values => ['one', '$arg_none$http_x_b', '""'],
  seen => sub { $_[1]{headers}{'x-tenant'} }, shows => ['one', 2, undef] }



=== TEST 11: trace_span_name
--- http
trace internal on;
trace_context internal propagate header=x-op-traceparent;
--- levels eval
{ line => 'trace_span_name VALUE;',
  values => ['one', 'internal "two $request_method"', '""'],
  seen => sub { $_[1]{name} }, shows => ['one', 'two GET', qr/^GET \//] }



=== TEST 12: trace_attribute
--- http
trace internal on;
trace_context internal propagate header=x-op-traceparent;
--- levels eval
{ line => 'trace_attribute internal level VALUE;',
  values => ['one', '$request_method', '""'],
  seen => sub { $_[1]{attributes}{level} }, shows => ['one', 'GET', undef] }



=== TEST 13: trace_default_attributes
--- http
trace internal on;
trace_context internal propagate header=x-op-traceparent;
--- levels eval
{ line => 'trace_default_attributes internal VALUE;',
  values => ['none', 'minimal', 'all'],
  seen => sub { my $attempt = $_[2];
      "@{[ grep { exists $attempt->{attributes}{$_} }
           qw(http.request.method url.full) ]}" },
  shows => ['', 'http.request.method', 'http.request.method url.full'] }



=== TEST 14: trace_upstream
--- http
trace internal on;
trace_context internal propagate header=x-op-traceparent;
--- levels eval
{ line => 'trace_upstream VALUE;', values => ['internal', 'off', 'both'],
  seen => sub { ::kind('CLIENT', @_) }, shows => [1, 0, 1] }



=== TEST 15: trace_subrequests, in the location of the subrequest
--- http
trace internal on;
trace_context internal propagate header=x-op-traceparent;
--- levels eval
{ line => 'trace_subrequests VALUE;', values => ['off', 'on', 'on'],
  by => 'location = /by { echo_location $arg_to $args; }',
  seen => sub { ::kind('INTERNAL', @_) }, shows => [0, 1, 1] }



=== TEST 16: trace_response_header
--- http
trace internal on;
trace_context internal propagate header=x-op-traceparent;
--- levels eval
{ line => 'trace_response_header VALUE;',
  values => ['server-timing internal', 'traceresponse internal', 'off'],
  seen => sub { "@{[ $_[0] =~ /^(server-timing|traceresponse):/mig ]}" },
  shows => ['Server-Timing', 'traceresponse', ''] }



=== TEST 17: trace_error_log
--- http
trace internal on;
trace user on;
trace_routing tenant;
trace_context internal propagate header=x-op-traceparent;
--- levels eval
{ line => 'trace_error_log VALUE;', values => ['internal', 'user', 'off'],
  content => 'deny all;',
  seen => sub {
      my ($n) = $_[1]{trace_id} =~ /(.{6})\z/;
      open my $log, '<', $ENV{TEST_NGINX_SERVROOT} . '/logs/error.log' or die;
      my ($id) = map { /access forbidden.*trace_id: ([0-9a-f])\S*$n,/ ? $1
                       : () } <$log>;
      return $id;
  },
  shows => ['a', 'b', undef] }
--- error_log
access forbidden by rule



=== TEST 18: trace_keep
--- http
trace internal ratio=0;
trace_context internal propagate header=x-op-traceparent;
map $host $one { default 1; }
--- levels eval
{ line => 'trace_keep VALUE;', values => ['$one', '$arg_none', 'off'],
  seen => sub { ::kind('SERVER', @_) }, shows => [1, 0, 0] }



=== TEST 19: trace_control_header
--- http
trace internal on;
trace_context internal propagate header=x-op-traceparent;
--- levels eval
{ line => 'trace_control_header VALUE;', values => ['x-b', 'x-a', 'off'],
  seen => sub { "@{[ $_[0] =~ /^> (x-[ab]): /mg ]}" },
  shows => ['x-a', 'x-b', 'x-a x-b'] }



=== TEST 20: the parts of trace_context are inherited apart
--- http
trace internal on;
trace_trusted internal all;
trace_upstream off;
trace_context internal extract header=x-1-traceparent to=upstream;
upstream upstream { server $TEST_NGINX_UPSTREAM; }
upstream other { server $TEST_NGINX_UPSTREAM; }
map $host $two {
    default 00-22222222222222222222222222222222-2222222222222222-01;
}
--- config
location /mode {
    trace_context internal propagate;
    proxy_pass http://upstream;
    location /mode/other { proxy_pass http://other; }
    location /mode/header {
        trace_context internal header=x-2-traceparent;
        proxy_pass http://upstream;
        location /mode/header/to {
            trace_context internal to=all;
            proxy_pass http://other;
        }
    }
    location /mode/from {
        trace_context internal from=$two;
        proxy_pass http://upstream;
        location /mode/from/to {
            trace_context internal to=other;
            proxy_pass http://other;
            location /mode/from/to/header {
                trace_context internal header=x-2-traceparent;
                proxy_pass http://other;
            }
            location /mode/from/to/inject {
                trace_context internal inject;
                proxy_pass http://other;
            }
        }
    }
}
--- client eval
sub {
    my @headers = map { my $id = $_; "x-$id-traceparent: 00-"
        . ($id + 2) x 32 . '-' . ($id + 2) x 16 . '-01' } 1, 2;
    my %left = (
        '' => '3, 4 as it came', '/other' => 'none, 4 as it came',
        '/header' => '3 as it came, 4', '/header/to' => '3 as it came, 4',
        '/from' => '2, 4 as it came', '/from/to' => '2, 4 as it came',
        '/from/to/header' => '3 as it came, 4',
        '/from/to/inject' => 'new, 4 as it came');

    for my $uri (sort keys %left) {
        ::exchange(::request("/mode$uri", @headers));

        my $left = ::received();
        my %trace = map { $_ => 'none' } 1, 2;

        while ($left =~ /^> x-(\d)-traceparent: 00-(.{32})-(.{16})-/mg) {
            my ($n, $id, $parent) = ($1, $2, $3);

            $trace{$n} = $id =~ /^([234])\1{31}$/ ? $1 : 'new';
            $trace{$n} .= ' as it came' if $parent =~ /^3{16}$|^4{16}$/;
        }

        is("$trace{1}, $trace{2}", $left{$uri}, "/mode$uri");
    }
}
--- spans eval
[map { { name => "GET /mode$_->[0]", trace_id => qr/^(?:$_->[1])/ } }
    ['', '3{32}'], ['/from', '2{32}'], ['/from/to', '2{32}'],
    ['/from/to/header', '4{32}'], ['/from/to/inject', '.'],
    ['/header', '4{32}'], ['/header/to', '4{32}'], ['/other', '3{32}']]



=== TEST 21: trace comes from the nearest level that has it
--- http
trace internal on;
--- config
location /http { return 204; }
location /off {
    trace internal off;
    return 204;

    location /off/same { return 204; }
    location /off/on { trace internal on; return 204; }
    location ~ /regex$ { trace internal on; return 204; }
    location = /off/exact { trace internal on; return 204; }
}
location /variable {
    trace internal $arg_v;

    location /variable/same { return 204; }
    location /variable/off { trace internal off; return 204; }
}
--- client eval
sub {
    get('/http', '/off', '/off/same', '/off/on', '/off/regex', '/off/exact',
        '/variable/same', '/variable/same?v=0', '/variable/same?v=1',
        '/variable/off?v=1');
}
--- spans eval
[map { { attributes => { 'url.path' => $_ } } }
    '/http', '/off/on', '/off/regex', '/off/exact', '/variable/same']



=== TEST 22: after an internal redirect a yes stays, and a no is asked again
--- config
set $early "";
location /on { trace internal on; try_files /nosuch @off; }
location @off { trace internal off; return 204; }
location /off { try_files /nosuch @on; }
location /off/early { set $early $internal_trace_id; try_files /nosuch @on; }
location @on { trace internal on; return 204; }
location /twice { try_files /nosuch @again; }
location @again {
    recursive_error_pages on;
    error_page 404 = @on;
    return 404;
}
--- client eval
sub { get('/on', '/off', '/off/early', '/twice') }
--- spans eval
[map { { attributes => { 'url.path' => $_ } } }
    '/on', '/off', '/off/early', '/twice']



=== TEST 23: the same if the other pipeline has said yes
--- shows_internal: response
--- http
trace_context internal propagate header=x-op-traceparent;
trace_trusted internal all;
server {
    listen unix:$TEST_NGINX_DIR/upstream.sock;
    return 200 "$http_x_op_traceparent $http_traceparent\n";
}
--- config
location /t {
    trace internal on;
    error_page 502 = @user;
    proxy_pass http://127.0.0.1:1;
}
location @user {
    trace internal off;
    trace user on;
    trace_routing acme;
    proxy_pass http://unix:$TEST_NGINX_DIR/upstream.sock;
}
--- request
GET /t
--- more_headers
X-Op-Traceparent: 00-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-aaaaaaaaaaaaaaaa-01
Traceparent: 00-cccccccccccccccccccccccccccccccc-cccccccccccccccc-01
--- response_body_like eval
qr/^00-a{32}-(?!a{16})[0-9a-f]{16}-01 00-c{32}-(?!c{16})[0-9a-f]{16}-01$/
--- error_log
connect() failed
--- spans eval
[
    { trace_id => 'a' x 32, parent_span_id => 'a' x 16 },
    { trace_id => 'c' x 32, parent_span_id => 'c' x 16,
      headers => { 'x-tenant' => 'acme' } },
]



=== TEST 24: one pipeline says nothing of the other
--- http
trace user on;
trace_routing acme;
trace_context internal propagate header=x-op-traceparent;
--- config
location /both { trace internal on; return 204; }
location /internal { trace internal on; trace user off; return 204; }
location /user { return 204; }
location /none { trace user off; return 204; }
--- client eval
sub { get('/both', '/internal', '/user', '/none') }
--- spans eval
[
    { name => 'GET /both', headers => { 'x-tenant' => undef } },
    { name => 'GET /internal', headers => { 'x-tenant' => undef } },
    { name => 'GET /both', headers => { 'x-tenant' => 'acme' } },
    { name => 'GET /user', headers => { 'x-tenant' => 'acme' } },
]



=== TEST 25: a mode of trace_context without a header keeps the outer header
--- shows_internal: response
--- http
trace internal on;
trace_context internal propagate header=X-Op-TraceParent;
trace_trusted internal all;
--- config
location /http { return 200 "$internal_parent_id\n"; }
location /extract {
    trace_context internal extract;
    return 200 "$internal_parent_id\n";
}
location /ignore {
    trace_context internal ignore;
    return 200 "$internal_parent_id\n";

    location /ignore/propagate {
        trace_context internal propagate;
        return 200 "$internal_parent_id\n";
    }
}
location /other {
    trace_context internal propagate header=x-other-traceparent;
    return 200 "$internal_parent_id\n";

    location /other/inject {
        trace_context internal inject;
        return 200 "$internal_parent_id\n";

        location /other/inject/extract {
            trace_context internal extract;
            return 200 "$internal_parent_id\n";
        }
    }
}
location /standard {
    trace_context internal propagate header=traceparent;
    return 200 "$internal_parent_id\n";
}
--- request eval
[map { "GET $_" } qw(/http /extract /ignore /ignore/propagate /other
    /other/inject /other/inject/extract /standard)]
--- more_headers
X-Op-Traceparent: 00-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-aaaaaaaaaaaaaaaa-01
X-Other-Traceparent: 00-bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb-bbbbbbbbbbbbbbbb-01
Traceparent: 00-cccccccccccccccccccccccccccccccc-cccccccccccccccc-01
--- error_code eval
[(200) x 8]
--- response_body eval
[map { "$_\n" } 'a' x 16, 'a' x 16, '', 'a' x 16, 'b' x 16, '', 'b' x 16,
    'c' x 16]
--- spans eval
[map { { parent_span_id => $_ } } 'a' x 16, 'a' x 16, '', 'a' x 16, 'b' x 16,
    '', 'b' x 16, 'c' x 16]



=== TEST 26: trace_trusted comes from the nearest level; by itself it follows the header's name
--- shows_internal: response
--- http
trace internal on;
--- config
location /standard { return 200 "$internal_parent_id\n"; }
location /named {
    trace_context internal propagate header=x-op-traceparent;
    return 200 "$internal_parent_id\n";

    location /named/believed {
        trace_trusted internal 127.0.0.0/8 ::1;
        return 200 "$internal_parent_id\n";

        location /named/believed/same { return 200 "$internal_parent_id\n"; }
        location /named/believed/unix {
            trace_trusted internal unix: 192.0.2.1;
            return 200 "$internal_parent_id\n";
        }
    }

    location /named/standard {
        trace_context internal propagate header=traceparent;
        return 200 "$internal_parent_id\n";
    }
}
location /nobody {
    trace_trusted internal 192.0.2.1;
    return 200 "$internal_parent_id\n";

    location /nobody/all {
        trace_trusted internal all;
        return 200 "$internal_parent_id\n";
    }
}
--- request eval
[map { "GET $_" } qw(/standard /named /named/believed /named/believed/same
    /named/believed/unix /named/standard /nobody /nobody/all)]
--- more_headers
X-Op-Traceparent: 00-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-aaaaaaaaaaaaaaaa-01
Traceparent: 00-cccccccccccccccccccccccccccccccc-cccccccccccccccc-01
--- error_code eval
[(200) x 8]
--- response_body eval
[map { "$_\n" } 'c' x 16, '', 'a' x 16, 'a' x 16, '', 'c' x 16, '', 'c' x 16]
--- spans eval
[map { { parent_span_id => $_ } } 'c' x 16, '', 'a' x 16, 'a' x 16, '',
    'c' x 16, '', 'c' x 16]



=== TEST 27: trace_routing comes from the nearest level; an empty one drops the span
--- http
trace user on;
trace_routing http;
--- config
location /http { return 204; }
location /location {
    trace_routing $arg_tenant;
    return 204;

    location /location/nested { return 204; }
    location /location/constant { trace_routing "a constant"; return 204; }
    location /location/empty { trace_routing ""; return 204; }
}
location /if {
    if ($arg_tenant) { trace_routing if; }
    return 204;
}
location /named { try_files /nosuch @named; }
location @named { trace_routing named; return 204; }
--- client eval
sub {
    get('/http', '/location', '/location?tenant=a',
        '/location/nested?tenant=b', '/location/constant', '/location/empty',
        '/if', '/if?tenant=c', '/named');
}
--- check_spans eval
sub {
    is_deeply({ map { $_->{attributes}{'url.path'} . '?'
                      . ($_->{attributes}{'url.query'} || '')
                      => $_->{headers}{'x-tenant'} } @_ },
        { '/http?' => 'http', '/location?tenant=a' => 'a',
          '/location/nested?tenant=b' => 'b',
          '/location/constant?' => 'a constant', '/if?' => 'http',
          '/if?tenant=c' => 'if', '/named?' => 'named' }, 'routing');
}
--- span_count: 7



=== TEST 28: trace_span_name comes from the nearest level, for each pipeline alone
--- http
trace internal on;
trace user on;
trace_routing acme;
trace_context internal propagate header=x-op-traceparent;
trace_span_name http;
--- config
location /a { return 204; }
location /b {
    trace_span_name internal "b $request_method";
    return 204;

    location /b/c { trace_span_name user c; return 204; }
    location /b/d { trace_span_name d; return 204; }
    location /b/e { trace_span_name internal ""; return 204; }
    location /b/f { trace_span_name both $arg_none; return 204; }
}
location /if {
    if ($arg_a) { trace_span_name if; }
    return 204;
}
location /named { try_files /nosuch @named; }
location @named { trace_span_name named; return 204; }
--- client eval
sub {
    get('/a', '/b', '/b/c', '/b/d', '/b/e', '/b/f', '/if', '/if?a=1',
        '/named');
}
--- spans eval
[map { { name => $_ } }
    'http', 'b GET', 'b GET', 'd', 'GET /b/e', 'GET /b/f', 'http', 'if',
    'named',
    'http', 'http', 'c', 'd', 'http', 'GET /b/f', 'http', 'if', 'named']



=== TEST 29: trace_attribute adds to those of the outer levels, and replaces its name
--- http
trace internal on;
trace_attribute internal level http;
trace_attribute internal http 1;
--- config
trace_attribute internal level server;
trace_attribute internal server $request_method;
location /a { return 204; }
location /b {
    trace_attribute internal level location;
    trace_attribute internal b 1;
    return 204;

    location /b/c {
        trace_attribute internal level $uri;
        trace_attribute internal c 1;
        trace_attribute internal http "";
        return 204;
    }
    location /b/d { trace_attribute internal level ""; return 204; }
    location /b/e { trace_attribute user level user; return 204; }
}
location /if {
    if ($arg_a) { trace_attribute internal level if; }
    return 204;
}
location /named { trace_attribute internal first 1; try_files /nosuch @named; }
location @named { trace_attribute internal level named; return 204; }
--- client eval
sub { get('/a', '/b', '/b/c', '/b/d', '/b/e', '/if?a=1', '/if', '/named') }
--- spans eval
[map {
    my ($level, $http, $b, $c) = @$_;
    { attributes => { level => $level, http => $http, server => 'GET', b => $b,
                      c => $c, first => undef } }
} ['server', 1], ['location', 1, 1], ['/b/c', undef, 1, 1], [undef, 1, 1],
  ['location', 1, 1], ['if', 1], ['server', 1], ['named', 1]]



=== TEST 30: what is removed of the default attributes stays so in inner levels
--- http
trace internal on;
trace_attribute internal url.path "";
trace_attribute internal url.scheme other;
--- config
location /a { return 204; }
location /b {
    trace_attribute internal url.path changed;
    return 204;
}
location /c {
    trace_attribute internal url.scheme "";
    return 204;
}
--- client eval
sub { get('/a', '/b', '/c') }
--- spans eval
[map { { attributes => { 'url.path' => $_->[0], 'url.scheme' => $_->[1] } } }
    [undef, 'other'], ['changed', 'other'], [undef, undef]]

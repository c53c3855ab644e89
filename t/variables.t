# The variables: in every phase, wherever nginx takes variables, recorded and
# not; what they say is what is exported.

use strict;
use warnings;
use TraceTest;

our @names = qw(traceparent tracestate trace_id span_id parent_id sampled
    parent_sampled);

our $inbound = ['traceparent: 00-0af7651916cd43dd8448eb211c80319c-'
    . 'b7ad6b7169203331-01', 'tracestate: a=1,b=2',
    'x-op-traceparent: cc-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-bbbbbbbbbbbbbbbb'
    . '-00-what-is-to-come', 'x-op-tracestate: op=3'];

# all of them, as text of a configuration

our $all = join ' ', map { my $p = $_; map { "${p}_$_=\$${p}_$_;" } @names }
    qw(internal user);

$ENV{TEST_NGINX_ALL} = $all;

add_block_preprocessor(sub {
    my $block = shift;

    $block->set_value('shows_internal', 'response upstream');
    return if defined $block->must_die;
    $block->set_value('http', <<"_EOC_" . ($block->http || ''));
trace_context internal propagate header=x-op-traceparent;
trace_trusted internal all;
log_format all escape=none '$all';
map "" \$all { default '$all'; }
_EOC_
});

# a hash of what stands in |text|; the last value of each

sub values_of {
    my $text = shift;

    return { $text =~ /(\w+)=([^;]*);/g };
}

# what they should be by the spans |internal| and |user|, with the sampled flag
# of the parent

sub values_by {
    my ($internal, $internal_parent, $user, $user_parent) = @_;

    return { map {
        my ($pipeline, $span, $parent) = @$_;
        map { ("${pipeline}_$_->[0]" => $_->[1]) } (
            [traceparent => sprintf('00-%s-%s-%02x', $span->{trace_id},
                                    $span->{span_id}, $span->{flags} & 3)],
            [tracestate => $span->{trace_state}],
            [trace_id => $span->{trace_id}], [span_id => $span->{span_id}],
            [parent_id => $span->{parent_span_id}], [sampled => 1],
            [parent_sampled => $parent])
    } ['internal', $internal, $internal_parent], ['user', $user, $user_parent]
    };
}

# where nothing is recorded

sub values_of_inbound {
    return { (map { ("internal_$_->[0]" => $_->[1]) }
        [traceparent => 'cc-' . 'a' x 32 . '-' . 'b' x 16
                        . '-00-what-is-to-come'],
        [tracestate => 'op=3'], [trace_id => 'a' x 32], [span_id => ''],
        [parent_id => 'b' x 16], [sampled => 0], [parent_sampled => 0]),
      (map { ("user_$_->[0]" => $_->[1]) }
        [traceparent => '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331'
                        . '-01'],
        [tracestate => 'a=1,b=2'],
        [trace_id => '0af7651916cd43dd8448eb211c80319c'], [span_id => ''],
        [parent_id => 'b7ad6b7169203331'], [sampled => 1],
        [parent_sampled => 1]) };
}

sub no_values {
    return { map { ("internal_$_" => '', "user_$_" => '') } @names };
}

sub access_log {
    my $file = shift || 'access.log';

    open my $fh, '<', "$ENV{TEST_NGINX_SERVROOT}/logs/$file" or die "$file: $!";
    return <$fh>;
}

no_long_string();
run_tests();

__DATA__

=== TEST 1: in each phase and place they are what both spans have
--- http
server {
    listen unix:$TEST_NGINX_DIR/upstream.sock;
    return 200 "ok\n";
}
split_clients $internal_trace_id $bucket { 50% a; * b; }
--- config
trace_upstream off;
trace_subrequests off;
location /t {
    trace internal on;
    trace user on;
    trace_routing acme;
    set $in_set '$TEST_NGINX_ALL';
    set $in_map $all;
    set $early_bucket $bucket;
    if ($user_sampled = 1) { set $in_if yes; }
    auth_request /auth;
    auth_request_set $in_access '$TEST_NGINX_ALL';
    add_header x-set $in_set;
    add_header x-map $in_map;
    add_header x-if $in_if;
    add_header x-access $in_access;
    add_header x-header '$TEST_NGINX_ALL';
    add_header x-buckets "$early_bucket$bucket";
    access_log logs/all.log all;
    proxy_set_header x-proxy '$TEST_NGINX_ALL';
    proxy_pass http://unix:$TEST_NGINX_DIR/upstream.sock;
}
location = /auth { internal; return 204; }
--- client eval
sub { $::got = get($::inbound, '/t') }
--- check_spans eval
sub {
    my $expected = ::values_by($_[0], 0, $_[1], 1);

    is($expected->{internal_trace_id}, 'a' x 32, 'internal trace-id');
    is($expected->{internal_parent_id}, 'b' x 16, 'internal parent-id');
    is($expected->{internal_tracestate}, 'op=3', 'internal tracestate');
    is($expected->{user_tracestate}, 'a=1,b=2', 'user tracestate');
    is(scalar keys %$expected, 14, 'all');

    for (qw(set map access header)) {
        my ($value) = $::got =~ /^x-$_: (.*)\r$/m;
        is_deeply(::values_of($value), $expected, $_);
    }

    is_deeply(::values_of(::access_log('all.log')), $expected, 'access_log');
    like($::got, qr/^x-if: yes\r$/m, 'if');
    like($::got, qr/^x-buckets: (?:aa|bb)\r$/m, 'split_clients');
}
--- span_count: 2



=== TEST 2: the upstream gets what the variables said early, and the spans have
--- http
server {
    listen unix:$TEST_NGINX_DIR/upstream.sock;
    return 200 "$http_traceparent $http_x_op_traceparent $http_x_early\n";
}
--- config
location /t {
    trace internal on;
    trace user on;
    trace_upstream off;
    trace_routing acme;
    set $early "$user_traceparent $internal_traceparent";
    proxy_set_header x-early $early;
    proxy_pass http://unix:$TEST_NGINX_DIR/upstream.sock;
}
--- client eval
sub { $::got = get('/t') }
--- check_spans eval
sub {
    my ($internal, $user) = @_;
    my @values = $::got =~ /^(00-.*) (00-.*) (00-.*) (00-.*)$/m;

    is($values[0], "00-$user->{trace_id}-$user->{span_id}-03", 'user');
    is($values[1], "00-$internal->{trace_id}-$internal->{span_id}-03",
       'internal');
    is("@values[0, 1]", "@values[2, 3]", 'early');
}
--- span_count: 2



=== TEST 3: a new trace has no parent and no tracestate
--- config
location /t {
    trace internal on;
    trace user on;
    trace_routing acme;
    return 200 '$TEST_NGINX_ALL';
}
--- client eval
sub {
    $::got = ::values_of(get(
        ['traceparent: 00-00000000000000000000000000000000-b7ad6b7169203331-01',
         'tracestate: a=1'], '/t'));
}
--- check_spans eval
sub {
    is($::got->{$_}, '', $_) for map { ("internal_$_", "user_$_") }
        qw(tracestate parent_id parent_sampled);
    is_deeply($::got, ::values_by($_[0], '', $_[1], ''), 'all');
}
--- span_count: 2



=== TEST 4: not recorded, they are the inbound context, as it came
--- config
location /t {
    trace internal off;
    trace user $arg_no;
    trace_routing acme;
    add_header x-header '$TEST_NGINX_ALL';
    access_log logs/all.log all;
    try_files /t.txt =404;
}
location /on { trace internal on; }
--- user_files
>>> t.txt
ok
--- client eval
sub { $::got = get($::inbound, '/t') . get('/t') }
--- check_spans eval
sub {
    my @headers = $::got =~ /^x-header: (.*)\r$/mg;
    my @lines = ::access_log('all.log');

    is_deeply(::values_of($headers[0]), ::values_of_inbound(), 'headers');
    is_deeply(::values_of($headers[1]), ::no_values(), 'headers without');
    is_deeply(::values_of($lines[0]), ::values_of_inbound(), 'log');
    is_deeply(::values_of($lines[1]), ::no_values(), 'log without');
    is(scalar @_, 0, 'no spans');
}
--- span_count: 0



=== TEST 5: the same where the module is on nowhere
--- config
location /t {
    set $early '$TEST_NGINX_ALL';
    access_log logs/all.log all;
    return 200 $early;
}
--- client eval
sub { $::got = get($::inbound, '/t'); $::without = get('/t') }
--- check_spans eval
sub {
    is_deeply(::values_of($::got), ::values_of_inbound(), 'set');
    is_deeply(::values_of($::without), ::no_values(), 'set without');
    is_deeply(::values_of((::access_log('all.log'))[0]),
              ::values_of_inbound(), 'log');
}
--- span_count: 0



=== TEST 6: on nowhere, trusted or not
--- config
location /trusted {
    trace_trusted internal 127.0.0.1;
    return 200 '$TEST_NGINX_ALL';
}
location /other {
    trace_trusted internal 192.0.2.1;
    return 200 '$TEST_NGINX_ALL';
}
--- client eval
sub {
    is(::values_of(get($::inbound, '/trusted'))->{internal_trace_id},
       'a' x 32, 'trusted');
    is(::values_of(get($::inbound, '/other'))->{internal_trace_id}, '',
       'not trusted');
}
--- spans eval
[]



=== TEST 7: asked for early where the decision is a no, ids do not stay
--- config
location /t {
    set $early $internal_span_id;
    trace internal $arg_on;
    add_header x-early $early;
    add_header x-late "$internal_span_id,$internal_trace_id";
    try_files /t.txt =404;
}
--- user_files
>>> t.txt
ok
--- client eval
sub { $::got = get($::inbound, '/t', '/t?on=1') }
--- check_spans eval
sub {
    my @early = $::got =~ /^x-early: ([0-9a-f]{16})\r$/mg;
    my @late = $::got =~ /^x-late: (.*)\r$/mg;

    is(scalar @early, 2, 'both have ids early');
    is($late[0], ',' . 'a' x 32, 'a no has none later');
    is($late[1], "$early[1]," . 'a' x 32, 'a yes keeps them');
    is($_[0]{span_id}, $early[1], 'and exports them');
}



=== TEST 8: modes of trace_context
--- config
trace user on;
trace_routing acme;
location /ignore { trace_context user ignore; return 200 '$TEST_NGINX_ALL'; }
location /extract { trace_context user extract; return 200 '$TEST_NGINX_ALL'; }
location /inject { trace_context user inject; return 200 '$TEST_NGINX_ALL'; }
location /off {
    trace user off;
    trace_context user ignore;
    return 200 '$TEST_NGINX_ALL';
}
--- client eval
sub {
    $::got = [map { ::values_of(get($::inbound, $_)) }
        qw(/ignore /extract /inject /off)];
}
--- check_spans eval
sub {
    for (0 .. 2) {
        my $by = ::values_by($_[$_], '', $_[$_], $_ == 1 ? 1 : '');
        my $got = $::got->[$_];

        is_deeply({ map { ($_ => $got->{"user_$_"}) } @::names },
                  { map { ($_ => $by->{"user_$_"}) } @::names }, "mode $_");
    }

    is($_[1]{trace_id}, '0af7651916cd43dd8448eb211c80319c', 'extract');
    is($::got->[3]{user_trace_id}, '', 'not read, where it is off');
}
--- span_count: 3



=== TEST 9: a return of the server, and a request that is refused in its head
--- config
trace internal on;
trace user on;
trace_routing acme;
access_log logs/all.log all;
return 200 '$TEST_NGINX_ALL';
--- client eval
sub {
    $::return = get('/t');
    $::got = talk("GET /t HTTP/1.1\r\nHost: a\r\n"
        . "x-op-traceparent: 00-" . 'a' x 32 . '-' . 'b' x 16
        . "-01\r\nhost: b\r\n\r\n");
}
--- check_spans eval
sub {
    my @log = ::access_log('all.log');
    my $returned = ::values_by($_[0], '', $_[2], '');

    is_deeply(::values_of($::return), $returned, 'return');
    is_deeply(::values_of($log[0]), $returned, 'log of return');

    like($::got, qr{^HTTP/1.1 400 }, 'refused');
    is($_[1]{trace_id}, 'a' x 32, 'headers before the bad one count');
    is_deeply(::values_of($log[1]), ::values_by($_[1], 1, $_[3], ''),
              'log of 400');
}
--- span_count: 4



=== TEST 10: trace by a variable that is set in the same location
--- config
location /set {
    set $v $arg_v;
    trace internal $v;
    return 204;
}
location /late {
    trace internal $v;
    set $v "";
    if ($arg_v) { set $v 1; }
    return 204;
}
location /arg { trace internal $arg_x; return 204; }
location /two {
    set $two $arg_x$arg_y;
    trace internal $two;
    return 204;
}
location /parent {
    trace internal $internal_parent_sampled;
    return 204;
}
--- client eval
sub {
    get('/set', '/set?v=1', '/late', '/late?v=1', '/arg', '/arg?x=',
        '/arg?x=0', '/arg?x=off', '/arg?x=1', '/arg?x=on', '/arg?x=00',
        '/arg?x=of', '/arg?x=offf', '/arg?x=no', '/two?y=0', '/two?x=0&y=0',
        '/parent');
    get(["x-op-traceparent: 00-" . 'a' x 32 . '-' . 'b' x 16 . "-$_"],
        "/parent?$_") for qw(00 01 02 03);
}
--- spans eval
[map { { attributes => { 'url.path' => $_->[0], 'url.query' => $_->[1] } } }
    ['/set', 'v=1'], ['/late', 'v=1'], (map { ['/arg', "x=$_"] }
        qw(1 on 00 of offf no)), ['/two', 'x=0&y=0'], ['/parent', '01'],
    ['/parent', '03']]



=== TEST 11: Lua sees them in all its phases
--- skip_eval: 9: ($ENV{TEST_NGINX_LOAD_MODULES} || '') !~ /http_lua/
--- config
location /t {
    trace internal on;
    set_by_lua_block $set { return ngx.var.internal_span_id }
    rewrite_by_lua_block { ngx.ctx.rewrite = ngx.var.internal_span_id }
    access_by_lua_block { ngx.ctx.access = ngx.var.internal_span_id }
    content_by_lua_block {
        ngx.sleep(0.01)
        ngx.say(ngx.var.set, " ", ngx.ctx.rewrite, " ", ngx.ctx.access, " ",
                ngx.var.internal_span_id)
    }
}
--- client eval
sub { ($::got) = get('/t') =~ /([0-9a-f]{16}(?: [0-9a-f]{16}){3})/ }
--- check_spans eval
sub {
    my $id = $_[0]{span_id};

    is($::got, "$id $id $id $id", 'Lua');
}



=== TEST 12: a subrequest has those of its request
--- config
location /t {
    trace internal on;
    add_header x-main $internal_span_id;
    auth_request /auth;
    auth_request_set $sub $upstream_http_x_sub;
    add_header x-sub $sub;
    try_files /t.txt =404;
}
location = /auth {
    trace internal off;
    trace_subrequests off;
    proxy_pass http://unix:$TEST_NGINX_DIR/upstream.sock;
    proxy_set_header x-id $internal_span_id;
}
--- http
server {
    listen unix:$TEST_NGINX_DIR/upstream.sock;
    add_header x-sub $http_x_id;
    return 204;
}
--- user_files
>>> t.txt
ok
--- client eval
sub { $::got = get('/t') }
--- check_spans eval
sub {
    like($::got, qr/^x-main: $_[0]{span_id}\r$/m, 'main');
    like($::got, qr/^x-sub: $_[0]{span_id}\r$/m, 'subrequest');
}



=== TEST 13: where an upstream was asked before, but is not here
--- skip_eval: 3: ($ENV{TEST_NGINX_LOAD_MODULES} || '') !~ /http_lua/
--- http
server {
    listen unix:$TEST_NGINX_DIR/upstream.sock;
    location /accel { add_header X-Accel-Redirect /lua; return 200; }
    location /error { return 503; }
}
--- config
trace internal on;
proxy_intercept_errors on;
error_page 503 = /lua;
location /accel { proxy_pass http://unix:$TEST_NGINX_DIR/upstream.sock; }
location /error { proxy_pass http://unix:$TEST_NGINX_DIR/upstream.sock; }
location /lua {
    content_by_lua_block { ngx.say(ngx.var.internal_traceparent) }
}
--- client eval
sub { $::got = get('/accel', '/error') }
--- check_spans eval
sub {
    is_deeply([$::got =~ /^(00-.*)$/mg], [map {
        "00-$_->{trace_id}-$_->{span_id}-03" } @_], 'the ids of the requests');
}
--- span_count: 2

# Two nginx in a row, edge and inner: on the exported spans, the inner one is
# the child of exactly the span that the edge has sent, in both pipelines.

use strict;
use warnings;
use TraceTest;

# the spans of a request at both hops, as { internal => { edge, inner }, ... };
# what came over a Unix socket is inner's

sub hops {
    my %hops;

    for (@_) {
        my $pipeline = exists $_->{headers}{'x-tenant'} ? 'user' : 'internal';
        my $hop = $_->{attributes}{hop};

        die "two of $pipeline $hop" if $hops{$pipeline}{$hop};
        $hops{$pipeline}{$hop} = $_;
    }

    return \%hops;
}

add_block_preprocessor(sub {
    my $block = shift;

    return if defined $block->http_config;
    $block->set_value('http', ($block->http || '') . <<'_EOC_');
trace internal on;
trace_context internal propagate header=x-op-traceparent;
trace user $http_x_tenant;
trace_routing $http_x_tenant;
trace_attribute both hop $server_name;
trace_upstream off;
trace_subrequests off;

server {
    listen unix:$TEST_NGINX_DIR/inner.sock;
    server_name inner;
    trace_trusted internal unix:;
    return 200 "$http_x_op_traceparent $http_traceparent $http_tracestate\n";
}

server {
    listen unix:$TEST_NGINX_DIR/suspicious.sock;
    server_name suspicious;
    return 200 "$http_x_op_traceparent $http_traceparent $http_tracestate\n";
}
_EOC_
    $block->set_value('config', "trace_attribute both hop edge;\n"
        . $block->config);

    # the inner one answers with the headers that it has got
    $block->set_value('shows_internal', 'response');
});

no_long_string();
run_tests();

__DATA__

=== TEST 1: the inner span is the child of the edge's, in both pipelines
--- config
location /t { proxy_pass http://unix:$TEST_NGINX_DIR/inner.sock; }
--- client eval
sub {
    $::got = get(['X-Tenant: acme', 'tracestate: a=1,b=2',
        'traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'],
        '/t');
}
--- check_spans eval
sub {
    my $hops = ::hops(@_);
    my ($edge, $inner) = @{$hops->{internal}}{qw(edge inner)};

    is(scalar @_, 4, 'spans');
    is($edge->{parent_span_id}, '', 'internal: edge has no parent');
    is($inner->{parent_span_id}, $edge->{span_id}, 'internal: parent');
    is($inner->{trace_id}, $edge->{trace_id}, 'internal: trace');
    isnt($inner->{span_id}, $edge->{span_id}, 'internal: its own id');
    is($edge->{flags}, 0x103, 'internal: random, sampled, not remote');
    is($inner->{flags}, 0x303, 'internal: random, sampled, remote');
    is($_->{trace_state}, '', 'internal: no tracestate') for $edge, $inner;
    like($::got, qr/^00-$edge->{trace_id}-$edge->{span_id}-03 /m,
         'internal: header');

    my ($user_edge, $user_inner) = @{$hops->{user}}{qw(edge inner)};

    is($user_edge->{parent_span_id}, 'b7ad6b7169203331', 'user: the client');
    is($user_inner->{parent_span_id}, $user_edge->{span_id}, 'user: parent');
    is($_->{trace_id}, '0af7651916cd43dd8448eb211c80319c', 'user: trace')
        for $user_edge, $user_inner;
    isnt($user_inner->{span_id}, $user_edge->{span_id}, 'user: its own id');
    is($_->{flags}, 0x301, 'user: not random, sampled, remote')
        for $user_edge, $user_inner;
    is($_->{trace_state}, 'a=1,b=2', 'user: tracestate')
        for $user_edge, $user_inner;
    like($::got, qr/ 00-$user_edge->{trace_id}-$user_edge->{span_id}-01
                     \ a=1,b=2$/mx, 'user: header');

    is_deeply([map { $_->{span_id} } @{$edge->{links}}],
              [$user_edge->{span_id}], 'link of the edge');
    is_deeply([map { $_->{span_id} } @{$inner->{links}}],
              [$user_inner->{span_id}], 'link of the inner one');
    is(scalar @{$_->{links}}, 0, 'no links of user spans')
        for $user_edge, $user_inner;
    isnt($edge->{trace_id}, $user_edge->{trace_id}, 'two traces');

    cmp_ok($_->[1]{start_time_unix_nano}, '>=',
           $_->[0]{start_time_unix_nano} - 1_000_000, 'starts inside')
        for [$edge, $inner], [$user_edge, $user_inner];
}
--- span_count: 4



=== TEST 2: the same over TCP
--- config
location /t {
    proxy_set_header Host inner;
    proxy_set_header x-unrelated to-stop-inheritance;
    proxy_pass http://$TEST_NGINX_SERVER_PORT/inner;
}
location /inner {
    trace_trusted internal 127.0.0.0/8;
    trace_attribute both hop inner;
    return 204;
}
--- client eval
sub { get(['X-Tenant: acme'], '/t') }
--- check_spans eval
sub {
    my $hops = ::hops(@_);

    for (qw(internal user)) {
        my ($edge, $inner) = @{$hops->{$_}}{qw(edge inner)};

        is($edge->{parent_span_id}, '', "$_: edge");
        is($inner->{parent_span_id}, $edge->{span_id}, "$_: parent");
        is($inner->{trace_id}, $edge->{trace_id}, "$_: trace");
        is($edge->{flags}, 0x103, "$_: flags of edge");
        is($inner->{flags}, 0x303, "$_: flags of inner");
        is($inner->{attributes}{'server.address'}, 'inner', "$_: server");
    }
}
--- span_count: 4



=== TEST 3: an inner one that does not trust begins a trace of the operator
--- config
location /t { proxy_pass http://unix:$TEST_NGINX_DIR/suspicious.sock; }
--- client eval
sub { $::got = get(['X-Tenant: acme'], '/t') }
--- check_spans eval
sub {
    my $hops = ::hops(@_);
    my ($edge, $inner) = @{$hops->{internal}}{qw(edge suspicious)};

    is($inner->{parent_span_id}, '', 'internal: no parent');
    isnt($inner->{trace_id}, $edge->{trace_id}, 'internal: another trace');
    is($inner->{flags}, 0x103, 'internal: flags');

    is($hops->{user}{suspicious}{parent_span_id},
       $hops->{user}{edge}{span_id}, 'user: parent');
}
--- span_count: 4



=== TEST 4: an unsampled context that is recorded goes on sampled; random stays
--- config
location /t { proxy_pass http://unix:$TEST_NGINX_DIR/inner.sock; }
--- client eval
sub {
    get(['X-Tenant: acme', 'traceparent: 00-0af7651916cd43dd8448eb211c80319c-'
        . 'b7ad6b7169203331-02'], '/t');
}
--- check_spans eval
sub {
    my $user = ::hops(@_)->{user};

    is($user->{$_}{flags}, 0x303, $_) for qw(edge inner);
    is($user->{inner}{parent_span_id}, $user->{edge}{span_id}, 'parent');
}
--- span_count: 4



=== TEST 5: an edge that does not record is no hop
--- config
location /t {
    trace internal off;
    trace user off;
    trace_trusted internal all;
    proxy_pass http://unix:$TEST_NGINX_DIR/inner.sock;
}
--- client eval
sub {
    $::got = get(['X-Tenant: acme', 'tracestate: a=1', 'traceparent: '
        . 'cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00-more',
        'x-op-traceparent: 00-' . 'a' x 32 . '-' . 'b' x 16 . '-02'], '/t');
}
--- spans eval
[
    { attributes => { hop => 'inner' }, trace_id => 'a' x 32,
      parent_span_id => 'b' x 16, flags => 0x303 },
    { attributes => { hop => 'inner' }, parent_span_id => 'b7ad6b7169203331',
      trace_id => '0af7651916cd43dd8448eb211c80319c', flags => 0x301,
      trace_state => 'a=1' },
]
--- check_spans eval
sub {
    my ($traceparent) = $::got =~ / (cc-\S+) a=1$/m;

    is($traceparent,
       'cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00-more',
       'the header as it came');
}



=== TEST 6: the parent is the one that was sent, also where the first upstream is dead
--- http
upstream both {
    server 127.0.0.1:1 max_fails=0;
    server unix:$TEST_NGINX_DIR/inner.sock backup;
}
--- config
location /t { proxy_pass http://both; }
--- client eval
sub { get(['X-Tenant: acme'], '/t') }
--- check_spans eval
sub {
    my $hops = ::hops(@_);

    is($hops->{$_}{inner}{parent_span_id}, $hops->{$_}{edge}{span_id}, $_)
        for qw(internal user);
}
--- span_count: 4
--- error_log
connect() failed



=== TEST 7: many at once keep their ids apart
--- config
location /t { proxy_pass http://unix:$TEST_NGINX_DIR/inner.sock; }
--- client eval
sub {
    my @sockets = map { connection() } 0 .. 14;

    for (0 .. 14) {
        syswrite $sockets[$_], "GET /t?n=$_ HTTP/1.1\r\nHost: a\r\n"
            . "X-Tenant: acme\r\nConnection: close\r\n\r\n";
    }
    1 while grep { sysread $_, my $answer, 4096 } @sockets;
}
--- check_spans eval
sub {
    my %of;

    for (@_) {
        my $pipeline = exists $_->{headers}{'x-tenant'} ? 'user' : 'internal';

        $of{$pipeline}{$_->{attributes}{'url.query'} || ''}
            {$_->{attributes}{hop}} = $_;
    }

    is(scalar @_, 60, 'spans');

    for my $pipeline (qw(internal user)) {
        my $wrong = 0;

        for (0 .. 14) {
            my $hops = $of{$pipeline}{"n=$_"};

            $wrong++ if !$hops->{inner} || !$hops->{edge}
                || $hops->{inner}{parent_span_id} ne $hops->{edge}{span_id}
                || $hops->{inner}{trace_id} ne $hops->{edge}{trace_id};
        }

        is($wrong, 0, "$pipeline: parents");
    }
}
--- span_count: 60



=== TEST 8: a request to the receiver carries spans of one tenant
--- http_config
trace_exporter user {
    endpoint $TEST_NGINX_OTLP;
    routing_header x-tenant;
    header x-constant both;
    interval 400ms;
}
--- config
location /t {
    trace user on;
    trace_routing $arg_tenant;
    trace_attribute user tenant $arg_tenant;
    return 204;
}
--- client eval
sub { get(map { ('/t?tenant=a', '/t?tenant=b', '/t', '/t?tenant=c') } 1 .. 20) }
--- check_spans eval
sub {
    my %requests;

    for (@_) {
        is($_->{headers}{'x-tenant'}, $_->{attributes}{tenant}, 'its own');
        is($_->{headers}{'x-constant'}, 'both', 'constant header');
        push @{$requests{$_->{request}}}, $_->{attributes}{tenant};
    }

    is(scalar @_, 60, 'spans without routing are dropped');
    is(scalar keys %requests, 3, 'one request for each');

    for (values %requests) {
        my %tenants = map { $_ => 1 } @$_;

        is(scalar keys %tenants, 1, 'of one tenant');
        is(scalar @$_, 20, 'all of them');
    }
}
--- span_count: 60



=== TEST 9: a routing that could not be a header's value is as none
--- http_config
trace_exporter user {
    endpoint $TEST_NGINX_OTLP;
    routing_header x-tenant;
    interval 20ms;
}
map $arg_n $tenant {
    1 "";
    2 " a";
    3 "a ";
    4 "a\r\nx-evil: 1";
    5 "a\nb";
    7 "é";
    9 " ";
    10 "a b";
    11 "~!@#%^&*()[]{},;:";
    default $http_x_tenant;
}
--- config
location /t { trace user on; trace_routing $tenant; return 204; }
--- client eval
sub {
    get(map { "/t?n=$_" } 1 .. 11);
    get(['X-Tenant: ' . 'x' x 1024], '/t?n=12');
    get(['X-Tenant: ' . 'x' x 1025], '/t?n=13');
    get(["X-Tenant: a\tb"], '/t?n=14');
    get(["X-Tenant: \xff"], '/t?n=15');
}
--- check_spans eval
sub {
    is_deeply({ map { $_->{attributes}{'url.query'}
                      => $_->{headers}{'x-tenant'} } @_ },
        { 'n=10' => 'a b', 'n=11' => '~!@#%^&*()[]{},;:',
          'n=12' => 'x' x 1024 }, 'spans');
    is(scalar(grep { exists $_->{headers}{'x-evil'} } @_), 0, 'no header');
}
--- span_count: 3

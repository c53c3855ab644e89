# The request span: what is recorded of a request, and what is not.

use strict;
use warnings;
use TraceTest;

no_long_string();
run_tests();

__DATA__

=== TEST 1: a request leaves an internal span
--- config
location /t {
    trace internal on;
    return 200 "ok\n";
}
--- request
GET /t/a?b=c
--- more_headers
User-Agent: test
--- response_body
ok
--- spans eval
[{
    name => 'GET /t', kind => 'SERVER', parent_span_id => '',
    trace_id => qr/^[0-9a-f]{32}$/, span_id => qr/^[0-9a-f]{16}$/,
    flags => 0x103, status => { code => 'UNSET' },
    resource => { 'service.name' => 'unknown_service:nginx' },
    scope => { name => 'ngx_http_trace_module' },
    attributes => {
        'http.request.method' => 'GET',
        'http.request.method_original' => undef,
        'url.path' => '/t/a',
        'url.query' => 'b=c',
        'url.scheme' => 'http',
        'server.address' => 'localhost',
        'http.route' => '/t',
        'http.response.status_code' => 200,
        'error.type' => undef,
        'client.address' => '127.0.0.1',
        'network.peer.address' => '127.0.0.1',
        'network.peer.port' => qr/^\d+$/,
        'network.protocol.version' => '1.1',
        'user_agent.original' => 'test',
        'http.request.body.size' => undef,
        'http.response.body.size' => 3,
    },
}]



=== TEST 2: off, the default, leaves none
--- config
location /t {
    return 200 "ok\n";
}
location /on { trace internal on; return 204; }
--- request
GET /t
--- response_body
ok
--- spans eval
[]



=== TEST 3: both pipelines leave one each, which share no id, and a link
--- config
location /t {
    trace internal on;
    trace_context internal propagate header=x-op-traceparent;
    trace user on;
    trace_routing $http_x_tenant;
    return 200 "ok\n";
}
--- request
GET /t
--- more_headers
X-Tenant: acme
traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01
--- response_body
ok
--- spans eval
[
    { name => 'GET /t', parent_span_id => '', headers => { 'x-tenant' => undef } },
    { name => 'GET /t', headers => { 'x-tenant' => 'acme' },
      trace_id => '0af7651916cd43dd8448eb211c80319c',
      parent_span_id => 'b7ad6b7169203331', flags => 0x301, links => [],
      attributes => { 'client.address' => undef,
                      'network.peer.address' => undef } },
]
--- check_spans eval
sub {
    my ($internal, $user) = @_;

    Test::More::isnt($internal->{trace_id}, $user->{trace_id}, 'trace ids');
    Test::More::isnt($internal->{span_id}, $user->{span_id}, 'span ids');
    Test::More::is(scalar @{$internal->{links}}, 1, 'one link');
    Test::More::is($internal->{links}[0]{$_}, $user->{$_},
                   "the internal span links to the user span: $_")
        for qw(trace_id span_id);
    Test::More::is($internal->{links}[0]{flags}, 0x101,
                   'and the flags say that it is not remote');
}

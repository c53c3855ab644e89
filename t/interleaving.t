# 20,000 requests over 64 connections that interleave in two workers, HTTP/1.1
# and HTTP/2, both pipelines on: every span is in the trace of its own request
# and under the right parent, and what reached the upstreams had the ids of the
# attempts that sent it.

use strict;
use warnings;

use List::Util qw(max sum);
use Test::More;

use Delivery;
use Interleaving;
use Nginx;

my $requests = 20_000;
my $connections = 64;
my $streams = 4;
my $first = 100_001;

# What has to become of a request to /NAME/N, in the internal pipeline. V is the
# version of its protocol; "to" says what has reached an upstream with the id of
# the span, and of which request. Tries A and B are the first two, either way
# round.

my $trees = <<'_EOC_';
SERVER GET /static/ 204 V /static/N

SERVER GET /plain/ 200 V /plain/N
  CLIENT GET 200 to app /plain/N of N

SERVER GET /retry/ 200 V /retry/N
  CLIENT GET 200 resend=2 to app /retry/N of N
  CLIENT GET 502 error=502 A to unwell /retry/N of N
  CLIENT GET error=reset B to closes /retry/N of N

SERVER GET /auth/ 200 V /auth/N
  CLIENT GET 200 to app /auth/N of N
  INTERNAL subrequest /one 200
    CLIENT GET 200 to app /one of N

SERVER GET /page/ 200 V /page/N
  CLIENT GET 200 to app /page/N of N
  INTERNAL subrequest /one 200
    CLIENT GET 200 to app /one of N
  INTERNAL subrequest /two 200
    CLIENT GET 200 resend=2 to app /two of N
    CLIENT GET 502 error=502 A to unwell /two of N
    CLIENT GET error=reset B to closes /two of N

SERVER GET /mirror/ 200 V /mirror/N
  CLIENT GET 200 to app /mirror/N of N
  INTERNAL subrequest /one 200
    CLIENT GET 200 to app /one of N

SERVER GET @spare 200 V /named/N
  * redirect http.route=@spare url.path=/named/N
  CLIENT GET 200 to app /named/N of N
  CLIENT GET 503 error=503 to busy /named/N of N

SERVER GET /lua/ 200 V /lua/N
  INTERNAL subrequest /one 200
    CLIENT GET 200 to app /one of N
  INTERNAL subrequest /one 200
    CLIENT GET 200 to app /one of N
  INTERNAL subrequest /two 200
    CLIENT GET 200 resend=2 to app /two of N
    CLIENT GET 502 error=502 A to unwell /two of N
    CLIENT GET error=reset B to closes /two of N

SERVER GET /echo/ 200 V /echo/N
  INTERNAL subrequest /one 200
    CLIENT GET 200 to app /one of N
  INTERNAL subrequest /two 200
    CLIENT GET 200 resend=2 to app /two of N
    CLIENT GET 502 error=502 A to unwell /two of N
    CLIENT GET error=reset B to closes /two of N
_EOC_

my %tree = map { m{/(\w+)/N} => s/\n*\z/\n/r } split /\n\n/, $trees;
my %size = map { $_ => scalar(() = $tree{$_} =~ /^ *[A-Z]/mg) } keys %tree;

# the Lua module, if there is one, makes no captures for HTTP/2

my $lua = grep { /_lua_/ } $ENV{TEST_NGINX_LOAD_MODULES} // '';
my @names = grep { $_ ne 'lua' } sort keys %tree;
my %names = ('1.1' => [@names, $lua ? 'lua' : ()], 2 => \@names);

# the texts of which one has to come

sub expected {
    my ($pipeline, $name, $version) = @_;
    my $text = $tree{$name} =~ s/ V / $version /r;

    # users do not see what cannot be reached from outside
    $text =~ s{(?<=subrequest) /\w+| \@spare| http.route=\S+| url.path=\S+}{}g
        if $pipeline eq 'user';

    my %texts = map { sorted($_) => 1 }
        $text =~ s/ A / /r =~ s/ B / resend=1 /r,
        $text =~ s/ A / resend=1 /r =~ s/ B / /r;

    return keys %texts;
}

# each request waits 1 to 15 ms at each of them

sub upstreams {
    my $dir = shift;
    my $server = sub {
        my ($name, $content) = @_;

        return <<"_EOC_";
server {
    server_name $name;
    listen unix:$dir/$name.sock;
    access_log $dir/arrivals arrivals buffer=64k;
    $content
}
_EOC_
    };

    return Nginx->new(main => 'worker_processes 1;',
        events => 'worker_connections 1000;', http => <<'_EOC_'
log_format arrivals '$http_x_mark $http_x_op_traceparent $http_traceparent '
                    '$server_name $uri';
keepalive_requests 1000000;

map $request_id $seconds {
    "~^[0-4]" 0.001;
    "~^[5-9]" 0.005;
    default   0.015;
}
_EOC_
        . $server->(app => <<'_EOC_')
location / { echo_sleep $seconds; echo ok; }
location /page/ {
    default_type text/html;
    echo_sleep $seconds;
    echo '<!--#include virtual="/one" --><!--#include virtual="/two" -->';
}
_EOC_
        . $server->(unwell => <<'_EOC_')
location / { echo_status 502; echo_sleep $seconds; echo no; }
_EOC_
        . $server->(busy => <<'_EOC_')
location / { echo_status 503; echo_sleep $seconds; echo no; }
_EOC_
        . $server->(closes => <<'_EOC_'));
location / { echo_sleep $seconds; echo_exec @end; }
location @end { return 444; }
_EOC_
}

sub proxy {
    my $dir = shift;
    my $nginx = Nginx->new(main => 'worker_processes 2;',
        events => 'worker_connections 1000;');

    system("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256"
        . " -nodes -days 1 -subj /CN=localhost -keyout $dir/key -out $dir/cert"
        . " > $dir/openssl.log 2>&1") == 0 or die 'openssl';

    $nginx->{http} = exporter($dir, 'queue 64m; interval 100ms;')
        . exporter($dir, 'queue 64m; interval 100ms; routing_header x-tenant;',
            'user')
        . <<"_EOC_";
trace_resource INTERNAL-MARKER-name INTERNAL-MARKER-value;
keepalive_requests 1000000;
proxy_http_version 1.1;
proxy_set_header Connection "";
ssl_certificate $dir/cert;
ssl_certificate_key $dir/key;

upstream app {
    server unix:$dir/app.sock;
    keepalive 100;
    keepalive_requests 1000000;
}

upstream shaky {
    server unix:$dir/unwell.sock max_fails=0;
    server unix:$dir/closes.sock max_fails=0;
    server unix:$dir/app.sock backup;
}

upstream busy {
    server unix:$dir/busy.sock;
}
_EOC_

    # reuseport, so that the workers get about as many connections each
    $nginx->{server} = <<"_EOC_" . <<'_EOC_';
listen 127.0.0.2:$nginx->{port} reuseport;
listen 127.0.0.3:$nginx->{port} ssl http2 reuseport;
_EOC_
trace internal on;
trace_context internal propagate header=x-op-traceparent;
trace_trusted internal all;
trace_attribute internal worker $pid;
trace user on;
trace_routing $http_x_tenant;

location /static/ { return 204; }
location /plain/ { proxy_pass http://app; }

location /retry/ {
    proxy_next_upstream error http_502;
    proxy_pass http://shaky;
}

location /auth/ {
    auth_request /one;
    proxy_pass http://app;
}

location /page/ {
    ssi on;
    proxy_pass http://app;
}

location /mirror/ {
    mirror /one;
    proxy_pass http://app;
}

location /named/ {
    error_page 503 = @spare;
    proxy_intercept_errors on;
    proxy_pass http://busy;
}

location @spare { proxy_pass http://app; }

location /echo/ {
    echo_location_async /one;
    echo_location_async /two;
}

location = /one {
    internal;
    proxy_pass http://app;
}

location = /two {
    internal;
    proxy_next_upstream error http_502;
    proxy_pass http://shaky;
}

location = /status {
    trace internal off;
    trace user off;
    trace_status format=json;
}
_EOC_

    $nginx->{server} .= <<'_EOC_' if $lua;
location /lua/ {
    content_by_lua_block {
        ngx.sleep(math.random(0, 5) / 1000)
        ngx.location.capture("/one")
        ngx.sleep(math.random(0, 5) / 1000)
        ngx.location.capture_multi { { "/one" }, { "/two" } }
        ngx.say("ok")
    }
}
_EOC_

    return $nginx;
}

# the clients, and all of their requests

sub work {
    my $nginx = shift;
    my %client = (
        '1.1' => { url => "http://127.0.0.2:$nginx->{port}", streams => 1,
                   options => "http1.1\n" },
        2 => { url => "https://127.0.0.3:$nginx->{port}",
               streams => $streams, options => "http2\ninsecure\n" },
    );
    my @clients = map +{ version => $_, %{$client{$_}} },
        ('1.1', 2) x ($connections / 2);
    my @requests;

    # the same each time
    srand 1;

    for my $n ($first .. $first + $requests - 1) {
        my $client = $clients[$n % $connections];
        my $names = $names{$client->{version}};
        my $name = $names->[rand @$names];

        push @requests, request($n, path => "/$name/$n", name => $name,
            version => $client->{version});
        push @{$client->{requests}}, $requests[-1];
    }

    return (\@clients, \@requests);
}

# how many of the intervals overlap at most

sub overlap {
    my ($now, $most) = (0, 0);

    for (sort { $a->[0] <=> $b->[0] || $a->[1] <=> $b->[1] }
        map { [$_->[0], 1], [$_->[1], -1] } @_)
    {
        $now += $_->[1];
        $most = max $most, $now;
    }

    return $most;
}

# the first of those that are wrong

sub none {
    my ($wrong, $name) = @_;

    is(scalar @$wrong, 0, $name) or diag map { "$_\n" } grep { defined }
        @$wrong[0 .. 2];
}

# whether each request has one of the trees that it may have, and all of these
# were seen

sub trees {
    my ($pipeline, $trees, $all) = @_;
    my (%seen, @wrong);

    for my $request (@$all) {
        my ($n, $name, $version) = @$request{qw(n name version)};
        my $seen = $seen{"$name $version"} ||= {
            map { $_ => 0 } expected($pipeline, $name, $version) };

        if (exists $seen->{$trees->{$n}}) {
            $seen->{$trees->{$n}}++;
        } else {
            push @wrong, "$request->{path}:\n$trees->{$n}";
        }
    }

    none(\@wrong, "$pipeline: each request has its tree");

    for my $seen (values %seen) {
        none([grep { !$seen->{$_} } keys %$seen],
            "$pipeline: each tree is seen");
    }
}

scene 'interleaving' => sub {
    my $dir = shift;
    start_receiver("unix:$dir/otlp.sock", "$dir/jsonl");
    my $upstreams = upstreams($dir)->start;
    my $nginx = proxy($dir)->start;
    my ($clients, $all) = work($nginx);

    my $start = time;
    my @answers = clients($dir, @$clients);
    note sprintf '%d requests in %.1f s', $requests, time - $start;

    my %answers = map { %$_ } @answers;
    none([grep { $_ ne '1' } map { $_->{connections} } @answers],
        'each client has one connection');
    none([map { "$_->{path}: " . ($answers{$_->{n}} // 'none') }
        grep { ($answers{$_->{n}} // '') ne
            ($_->{name} eq 'static' ? 204 : 200) . " $_->{version}" } @$all],
        'all requests are answered');

    my $spans = sum map { $size{$_->{name}} } @$all;

    for my $pipeline ('internal', 'user') {
        $nginx->wait_for(sub {
            status($nginx, $pipeline)->{spans_recorded} >= $spans;
        });
        balance($nginx, pipeline => $pipeline, recorded => $spans,
            exported => $spans);
    }

    $upstreams->quit;
    is(end_receiver(), 0, 'the receiver ends');

    my $forest = forest("$dir/jsonl", "$dir/arrivals", $all);

    is($forest->{spans}, 2 * $spans, 'all spans have come');
    none($forest->{stray}, 'all are in a tree, each with an id of its own');
    none([map { $_->{path} } @{$forest->{unlinked}}],
        'an internal span links to the user span of its request');
    none($forest->{unclaimed}, 'no upstream got an id that no attempt has');

    trees($_, $forest->{trees}{$_}, $all) for 'internal', 'user';

    my @working = values %{$forest->{working}};
    is(scalar @working, 2, 'two workers have served them');

    for (@working) {
        my $n = overlap(@$_);
        cmp_ok($n, '>=', $connections / 4, "$n requests at the same time");
    }

    note sprintf '%.1f s in all', time - $start;
};

done_testing();

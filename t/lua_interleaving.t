# 10,000 requests over 32 connections of one worker, whose Lua code opens spans
# and yields as chance will have it, in phases, light threads, coroutines and
# captures: each span is below the one in which its code ran.

use strict;
use warnings;

use Interleaving;
use JSON::XS;
use Test::More;

use Delivery qw(scene exporter balance);
use Load;
use Nginx;

my $requests = 10_000;
my $connections = 32;

plan skip_all => 'the Lua module is not there'
    if ($ENV{TEST_NGINX_LOAD_MODULES} // '') !~ /_lua_/;

# A span has a number in its request, and that of the span which it has to be
# below; 0 is the request's own. Where it is no span of Lua's, its path says so.

my $http = <<'_EOC_';
lua_package_path "$TEST_NGINX_LUA/?.lua;;";
keepalive_requests 1000000;

init_by_lua_block {
    trace = require "resty.trace"
    local random = math.random

    -- of each request: how many there are
    spans = {}

    -- the requests that are under way
    now, most = 0, 0

    local function number(n)
        spans[n] = spans[n] + 1
        return spans[n]
    end

    local function pause()
        local way = random(4)

        if way == 1 then
            ngx.sleep(random(0, 3) / 1000)

        elseif way == 2 then
            local sock = ngx.socket.tcp()

            assert(sock:connect("unix:" .. dir .. "/up.sock"))
            assert(sock:send("GET / HTTP/1.0\r\n\r\n"))
            assert(sock:receive("*l"))
            sock:setkeepalive()
        end
    end

    local function note(span, n, id, parent)
        assert(span.is_traced)
        span:set_attributes { n = n, id = id, parent = parent }
    end

    -- what runs where the span |parent| is current

    local ways = {
        function (n, parent, depth)
            local id = number(n)

            trace.enter_span("entered", function (span)
                note(span, n, id, parent)
                pause()
                run(n, id, depth)
            end)
        end,

        function (n, parent, depth)
            local id = number(n)

            assert(not pcall(trace.enter_span, "thrown", function (span)
                note(span, n, id, parent)
                run(n, id, depth)
                pause()
                error("thrown")
            end))
        end,

        -- what it leaves current is left with the span that it is in

        function (n, parent, depth)
            local id, active = number(n), number(n)

            trace.enter_span("around", function (span)
                note(span, n, id, parent)
                trace.start_active_span("active", function (span)
                    note(span, n, active, id)
                    pause()
                end)
                run(n, active, depth)
            end)
        end,

        function (n, parent)
            local span = trace.start_span("started")

            note(span, n, number(n), parent)
            pause()
            span:finish()
        end,

        function (n, parent)
            ngx.location.capture("/sub/" .. n .. "/" .. number(n) .. "/"
                                 .. parent)
        end,

        function (n, parent)
            local captures = {}

            for i = 1, random(3) do
                captures[i] = { "/sub/" .. n .. "/" .. number(n) .. "/"
                                .. parent }
            end

            ngx.location.capture_multi(captures)
        end,

        function (n, parent, depth)
            local threads = {}

            for i = 1, random(3) do
                threads[i] = ngx.thread.spawn(run, n, parent, depth)
            end

            run(n, parent, depth)

            for _, thread in ipairs(threads) do
                assert(ngx.thread.wait(thread))
            end
        end,

        function (n, parent, depth)
            local resume = coroutine.wrap(function ()
                local id = number(n)

                trace.enter_span("coroutine", function (span)
                    note(span, n, id, parent)
                    coroutine.yield()
                    run(n, id, depth)
                    coroutine.yield()
                end)
            end)

            resume()
            run(n, parent, depth)
            resume()

            -- or it is abandoned
            if random(4) > 1 then
                resume()
            end
        end,
    }

    function run(n, parent, depth)
        for _ = 1, depth > 0 and random(0, 2) or 0 do
            pause()
            ways[random(#ways)](n, parent, depth - 1)
        end
    end
}
_EOC_

my $server = <<'_EOC_';
trace internal on;
trace_attribute internal spans $spans;
trace_attribute internal most $most;

location ~ ^/r/(?<n>\d+)$ {
    set $active 0;

    rewrite_by_lua_block {
        local n = tonumber(ngx.var.n)

        spans[n] = 0
        now = now + 1
        most = math.max(most, now)

        run(n, 0, 2)
    }

    # what it leaves current is that of the attempt, and of the log phase
    access_by_lua_block {
        local n, id = tonumber(ngx.var.n), 0

        if math.random(2) == 1 then
            id = spans[n] + 1
            spans[n] = id
            trace.start_active_span("left", function (span)
                span:set_attributes { n = n, id = id, parent = 0 }
                run(n, id, 1)
            end)
        end

        ngx.var.active = id
        run(n, id, 2)
    }

    log_by_lua_block {
        local n = tonumber(ngx.var.n)

        trace.enter_span("log", function (span)
            span:set_attributes {
                n = n, id = spans[n] + 1, parent = tonumber(ngx.var.active)
            }
        end)
        ngx.var.spans = spans[n] + 3
        ngx.var.most = most
        now = now - 1
        spans[n] = nil
    }

    proxy_pass http://unix:$dir/up.sock:/up/$n/$active;
}

location ~ ^/sub/(?<n>\d+)/(?<id>\d+)/ {
    internal;
    content_by_lua_block {
        run(tonumber(ngx.var.n), tonumber(ngx.var.id), 1)
        ngx.exit(204)
    }
}
_EOC_

# a span's request, its number there, and that of its parent

sub place {
    my $span = shift;
    my $of = $span->{attributes};

    return $of->{'url.path'} =~ m{^/r/(\d+)$}, 0, '' if $span->{kind} eq 'SERVER';
    return $of->{'url.full'} =~ m{/up/(\d+)/(\d+)$} && ($1, 'attempt', $2)
        if $span->{kind} eq 'CLIENT';
    return $of->{'url.path'} =~ m{^/sub/(\d+)/(\d+)/(\d+)$}
        if $span->{name} =~ /^subrequest/;
    return @$of{qw(n id parent)};
}

sub none {
    my ($wrong, $name) = @_;

    is(scalar @$wrong, 0, $name) or diag map { "$_\n" } grep { defined }
        @$wrong[0 .. 4];
}

scene 'Lua interleaving' => sub {
    my $dir = shift;
    my $start = time;

    start_receiver("unix:$dir/otlp.sock", "$dir/jsonl");

    (my $here = $http) =~ s/\$TEST_NGINX_LUA/$ENV{TEST_NGINX_LUA}/;
    my $nginx = Nginx->new(main => 'worker_processes 1;',
        events => 'worker_connections 2000;',
        http => exporter($dir, 'queue 64m; interval 100ms;') . $here
            =~ s/init_by_lua_block \{/$& dir = "$dir"/r
            . "server { listen unix:$dir/up.sock; return 204; }",
        server => "set \$dir $dir; set \$spans ''; set \$most '';" . $server
            . 'location = /status { trace internal off;
                trace_status format=json; }')->start;

    my $result = Load->new(nginx => $nginx, requests => $requests,
        connections => $connections, path => '/r/%d')->wait;

    is($result->{failed}, 0, 'all requests are answered');
    balance($nginx);
    $nginx->quit;
    is(end_receiver(), 0, 'the receiver ends');
    unlike($nginx->log, qr/\[(error|alert|crit|emerg)\]/, 'no errors');

    my (%place, %of, @spans);

    open my $fh, '<', "$dir/jsonl" or die $!;

    while (<$fh>) {
        my $span = decode_json($_);
        my ($n, $id, $parent) = place($span);

        push @spans, [$span, "$n/$id", $id eq '0' ? undef : "$n/$parent"];
        $place{$span->{span_id}} = "$n/$id";
        $of{$n}{spans}++;
        $of{$n}{expected} = $span->{attributes}{spans} if $id eq '0';
        $of{most} = $span->{attributes}{most}
            if $id eq '0' && ($of{most} // 0) < $span->{attributes}{most};
    }

    my $most = delete $of{most};

    is(scalar keys %of, $requests, 'each request has spans');
    none([grep { $of{$_}{spans} != ($of{$_}{expected} // 0) } keys %of],
        'as many as it has opened');
    is(scalar keys %{{ reverse %place }}, scalar @spans, 'each of them once');
    none([map { "$_->[1] $_->[0]{name}: is below "
            . ($place{$_->[0]{parent_span_id}} // 'nothing')
            . ', not ' . ($_->[2] // 'nothing') }
        grep { ($place{$_->[0]{parent_span_id}} // 'nothing')
            ne ($_->[2] // 'nothing') } @spans],
        'each is below the span in which its code ran');
    cmp_ok($most, '>=', $connections / 2, "$most requests at the same time");

    note sprintf '%d spans, %.1f s', scalar @spans, time - $start;
};

done_testing();

# resty.trace: spans of Lua code, in every phase, light thread and coroutine; and
# the examples of docs/lua-api.md.

use strict;
use warnings;
use Test::More ();

BEGIN {
    Test::More::plan(skip_all => 'the Lua module is not there')
        if ($ENV{TEST_NGINX_LOAD_MODULES} // '') !~ /_lua_/;
}

use Wire;

# in front of each block's own lines

our $LUA = <<'_EOC_';
lua_package_path "$TEST_NGINX_LUA/?.lua;;";
init_by_lua_block {
    trace = require "resty.trace"
    enter = trace.enter_span

    -- as the function of a span
    function sleep(span, seconds)
        ngx.sleep(seconds)
    end
}
trace internal on;
trace_context internal propagate header=x-op-traceparent;
trace_routing acme;
_EOC_

# the examples of the page: code, and what becomes of it, by heading

my (%examples, @headings);

{
    open my $page, '<', 'docs/lua-api.md' or die "docs/lua-api.md: $!";
    local $/;
    my $text = <$page>;

    while ($text =~ /^\#+\ (.*?)\n | ^```lua\n(.*?)^```\n+```\n(.*?)^```\n/gmsx) {
        push @headings, $1 if defined $1;
        push @{$examples{$headings[-1]}}, [$2, $3] if defined $2;
    }

    open my $here, '<', $0 or die "$0: $!";
    my @run = <$here> =~ /^--- example: (.*)\n/mg;

    Test::More::is(join(', ', sort @run),
        join(', ', sort map { ($_) x @{$examples{$_}} } keys %examples),
        'each example of docs/lua-api.md is run');
}

add_block_preprocessor(sub {
    my $block = shift;

    if (defined $block->example) {
        my ($code, $tree) = @{shift @{$examples{$block->example}}};

        $block->set_value('config', "location /t { content_by_lua_block {\n"
            . "$code\nngx.say('ok')\n} }\n");
        $block->set_value('tree', $tree);
    }

    $block->set_value('http', $LUA . ($block->http // ''))
        if !defined $block->http_config;
    $block->set_value('request', "GET /t\n")
        if !defined $block->request && !defined $block->client;
});

no_long_string();
run_tests();

__DATA__

=== TEST 1: spans are nested and follow each other, across ngx.sleep
--- config
location /t {
    content_by_lua_block {
        enter("a", function ()
            enter("b", function ()
                ngx.sleep(0.005)
                enter("c", sleep, 0.005)
            end)
            ngx.sleep(0.005)
            enter("d", sleep, 0.005)
        end)
        enter("e", function () ngx.say("ok") end)
    }
}
--- tree
SERVER GET /t 200
  INTERNAL a
    INTERNAL b
      INTERNAL c
    INTERNAL d
  INTERNAL e



=== TEST 2: a function gets its span and what follows, and returns what it returns
--- config
location /t {
    content_by_lua_block {
        local function count(...)
            return select("#", ...), ...
        end

        for _, start in ipairs { enter, trace.start_active_span } do
            ngx.say(count(start("a", function (span, ...)
                ngx.sleep(0.001)
                assert(span.is_traced)
                return count(...)
            end, nil, 2, nil, nil)))
            ngx.say(count(start("b", function () end)))
        end
    }
}
--- response_body
54nil2nilnil
0
54nil2nilnil
0
--- tree
SERVER GET /t 200
  INTERNAL a
  INTERNAL b
  INTERNAL a
    INTERNAL b



=== TEST 3: a span is current across a cosocket
--- config
location /t {
    content_by_lua_block {
        enter("a", function ()
            local sock = ngx.socket.tcp()
            assert(sock:connect(ngx.var.up))
            enter("b", function ()
                assert(sock:send("GET /?delay=0.01 HTTP/1.0\r\n\r\n"))
                assert(sock:receive("*l"))
                enter("c", function () assert(sock:receive("*a")) end)
            end)
            enter("d", function () ngx.say("ok") end)
        end)
    }
    set $up $TEST_NGINX_UPSTREAM;
}
--- tree
SERVER GET /t 200
  INTERNAL a
    INTERNAL b
      INTERNAL c
    INTERNAL d



=== TEST 4: captures are children, and a span is current across them
--- config
location /t {
    content_by_lua_block {
        enter("a", function ()
            ngx.location.capture("/one")
            enter("b", function ()
                local one, two
                    = ngx.location.capture_multi { { "/one" }, { "/two" } }
                assert(one.status == 200 and two.status == 204)
            end)
            enter("c", function () end)
        end)
        ngx.location.capture("/two")
        assert(not pcall(ngx.location.capture))
        ngx.say("ok")
    }
}
location /one { proxy_pass http://$TEST_NGINX_UPSTREAM; }
location /two { return 204; }
--- tree
SERVER GET /t 200
  INTERNAL a
    INTERNAL subrequest /one 200
      CLIENT GET 200
    INTERNAL b
      INTERNAL subrequest /one 200
        CLIENT GET 200
      INTERNAL subrequest /two 204
    INTERNAL c
  INTERNAL subrequest /two 204



=== TEST 5: light threads never see each other's span
--- config
location /t {
    content_by_lua_block {
        local function work(name, pause)
            enter(name, function ()
                ngx.sleep(pause)
                enter("in " .. name, function ()
                    ngx.sleep(0.02)
                    enter("deep in " .. name, sleep, 0.02)
                end)
            end)
            enter("after " .. name, function () end)
        end

        -- the place of one that has ended is used again
        for _ = 1, 2000 do
            ngx.thread.spawn(function () end)
        end

        local a = ngx.thread.spawn(work, "a", 0.01)
        local b = ngx.thread.spawn(work, "b", 0.02)
        enter("c", sleep, 0.035)
        ngx.thread.wait(a)
        ngx.thread.wait(b)
        enter("d", function () ngx.say("ok") end)
    }
}
--- tree
SERVER GET /t 200
  INTERNAL a
    INTERNAL in a
      INTERNAL deep in a
  INTERNAL b
    INTERNAL in b
      INTERNAL deep in b
  INTERNAL c
  INTERNAL after a
  INTERNAL after b
  INTERNAL d



=== TEST 6: a light thread starts from its creator's current span
--- config
location /t {
    trace_span location;
    content_by_lua_block {
        local function work(name)
            ngx.sleep(0.01)
            enter(name, function ()
                ngx.thread.wait(ngx.thread.spawn(function ()
                    enter("deep in " .. name, function () end)
                end))
            end)
        end

        local a, b = ngx.thread.spawn(work, "a")
        enter("c", function ()
            b = ngx.thread.spawn(work, "b")
            enter("d", sleep, 0.03)
        end)
        ngx.say("ok")
    }
}
--- tree
SERVER GET /t 200
  INTERNAL location
    INTERNAL c
      INTERNAL d
      INTERNAL b
        INTERNAL deep in b
    INTERNAL a
      INTERNAL deep in a



=== TEST 7: captures of light threads are children of their own spans
--- config
location /t {
    content_by_lua_block {
        local function work(name)
            enter(name, function ()
                ngx.location.capture("/one")
                ngx.location.capture_multi { { "/two" }, { "/two" } }
            end)
            ngx.location.capture("/one")
        end

        enter("root", function ()
            local a = ngx.thread.spawn(work, "a")
            local b = ngx.thread.spawn(work, "b")
            enter("c", function ()
                ngx.location.capture("/two")
                ngx.thread.wait(a)
                ngx.thread.wait(b)
            end)
        end)
        ngx.location.capture("/two")
        ngx.say("ok")
    }
}
location /one { content_by_lua_block {
    enter("in one", function () ngx.sleep(0.005) ngx.say("ok") end)
} }
location /two { return 204; }
--- tree
SERVER GET /t 200
  INTERNAL root
    INTERNAL a
      INTERNAL subrequest /one 200
        INTERNAL in one
      INTERNAL subrequest /two 204
      INTERNAL subrequest /two 204
    INTERNAL b
      INTERNAL subrequest /one 200
        INTERNAL in one
      INTERNAL subrequest /two 204
      INTERNAL subrequest /two 204
    INTERNAL c
      INTERNAL subrequest /two 204
    INTERNAL subrequest /one 200
      INTERNAL in one
    INTERNAL subrequest /one 200
      INTERNAL in one
  INTERNAL subrequest /two 204



=== TEST 8: a capture that fails leaves the next ones alone
--- config
location /t {
    access_by_lua_block {
        ngx.thread.wait(ngx.thread.spawn(function ()
            enter("a", function ()
                pcall(ngx.location.capture, "/one", { method = "wrong" })
            end)
            ngx.sleep(0.001)
        end))
    }
    mirror /one;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
location /one { return 204; }
--- tree
SERVER GET /t 200
  INTERNAL a
  CLIENT GET 200
  INTERNAL subrequest /one 204 may-outlive



=== TEST 9: in ngx.timer.at there is no request, and no span
--- http
lua_shared_dict seen 64k;
--- config
location /t {
    content_by_lua_block {
        enter("a", function (span)
            assert(ngx.timer.at(0, function (premature, ...)
                local traced = trace.start_span("b").is_traced
                local results = { enter("c", function (inner, ...)
                    span:add_event("too late")
                    return inner.is_traced, ...
                end, ...) }
                ngx.shared.seen:set("seen", tostring(traced) .. " "
                    .. tostring(results[1]) .. " " .. results[2])
            end, "passed"))
        end)
        repeat ngx.sleep(0.01) until ngx.shared.seen:get("seen")
        ngx.say(ngx.shared.seen:get("seen"))
    }
}
--- response_body
false false passed
--- tree
SERVER GET /t 200
  INTERNAL a events=-



=== TEST 10: an error closes the span, is an event, and is thrown again as it was
--- config
location /t {
    content_by_lua_block {
        local object = setmetatable({}, { __tostring = function ()
            return "an object"
        end })
        local errors = { "text", 42, object, false }

        for i = 1, 5 do
            local ok, err = pcall(enter, "a", function ()
                ngx.sleep(0.001)
                error(errors[i], 0)
            end)
            assert(not ok and rawequal(err, errors[i]), i)
        end

        local function fails() error("here") end
        local ok, err = pcall(enter, "b", function ()
            enter("c", function () local x = fails() end)
        end)
        local _, plain = pcall(fails)
        assert(err == plain, err)
        enter("after", function () ngx.say("ok") end)
    }
}
--- tree
SERVER GET /t 200
  INTERNAL a status=ERROR
    * exception exception.type=string exception.message=text exception.stacktrace~^stack.traceback:
  INTERNAL a status=ERROR
    * exception exception.type=number exception.message=42
  INTERNAL a status=ERROR
    * exception exception.type=table exception.message="an object"
  INTERNAL a status=ERROR
    * exception exception.type=boolean exception.message=false
  INTERNAL a status=ERROR
    * exception exception.type=nil exception.message=nil
  INTERNAL b status=ERROR
    * exception exception.type=string
    INTERNAL c status=ERROR
      * exception exception.type=string exception.message~here$ exception.stacktrace~fails
  INTERNAL after



=== TEST 11: of an error, users see of what type it is, and no more
--- http
trace user on;
--- config
location /t {
    content_by_lua_block {
        pcall(enter, "both", function () error("secret") end)
        pcall(trace.user.enter_span, "user", function () error("secret") end)
        pcall(trace.internal.enter_span, "internal", function () error({}) end)
        pcall(enter, "long", function () error(("x"):rep(100000)) end)
        ngx.say("ok")
    }
}
--- check_spans eval
sub {
    for my $event (map { $_->{name} eq 'long' ? $_->{events}[0] : () } @_) {
        cmp_ok(length($event->{attributes}{'exception.message'} // ''),
            '<=', 4096, 'a message is cut');
    }
}
--- tree
internal:
SERVER GET /t 200
  INTERNAL both status=ERROR
    * exception exception.type=string exception.message~secret$ exception.stacktrace~in.function
  INTERNAL internal status=ERROR
    * exception exception.type=table exception.message~^table exception.stacktrace~in.function
  INTERNAL long status=ERROR
    * exception exception.type=string exception.message~xxxx$ exception.stacktrace~in.function
user:
SERVER GET /t 200
  INTERNAL both status=ERROR
    * exception exception.type=string exception.message=- exception.stacktrace=-
  INTERNAL user status=ERROR
    * exception exception.type=string exception.message=- exception.stacktrace=-
  INTERNAL long status=ERROR
    * exception exception.type=string exception.message=- exception.stacktrace=-



=== TEST 12: an error that nobody catches is that of the request
--- config
location /t {
    content_by_lua_block {
        enter("a", function () ngx.sleep(0.001) error("nobody") end)
    }
}
--- error_code: 500
--- error_log: nobody
--- tree
SERVER GET /t 500 error=500
  INTERNAL a status=ERROR
    * exception exception.message~nobody



=== TEST 13: a span that is never finished ends with its request
--- config
location /t {
    content_by_lua_block {
        trace.start_span("a"):set_attribute("k", "v")
        trace.start_active_span("b", function () end)
        ngx.sleep(0.01)
        ngx.say("ok")
    }
}
--- check_spans eval
sub {
    my %span = map { $_->{name} => $_ } @_;

    is($span{$_}{end_time_unix_nano}, $span{'GET /t'}{end_time_unix_nano},
        "$_ ends with the request") for 'a', 'b';
}
--- tree
SERVER GET /t 200
  INTERNAL a k=v
  INTERNAL b



=== TEST 14: a span that is finished is left alone, in its request and in the next
--- config
location /t {
    content_by_lua_block {
        kept = kept or {}
        for _, span in ipairs(kept) do
            span:set_attribute("too", "late")
            span:finish()
        end
        local span = trace.start_span("a")
        span:set_attribute("k", 1)
        span:finish()
        ngx.sleep(0.01)
        span:set_attribute("k", 2)
        span:set_attributes { more = 1 }
        span:add_event("event")
        span:update_name("b")
        span:finish()
        kept = { span, trace.start_span("c") }
        trace.start_active_span("d", function (span)
            span:finish()
            enter("e", function () end)
        end)
        ngx.say(span.is_traced)
    }
}
--- client eval: sub { get('/t', '/t') }
--- check_spans eval
sub {
    for (grep { $_->{name} eq 'a' } @_) {
        cmp_ok($_->{end_time_unix_nano} - $_->{start_time_unix_nano}, '<',
            10_000_000, 'it ends when it is finished');
    }
}
--- tree
SERVER GET /t 200
  INTERNAL a k=1 too=- more=- events=-
  INTERNAL c too=-
  INTERNAL d
  INTERNAL e
SERVER GET /t 200
  INTERNAL a k=1 too=- more=- events=-
  INTERNAL c too=-
  INTERNAL d
  INTERNAL e



=== TEST 15: a coroutine has its creator's span, and may be abandoned in one of its own
--- config
location /t {
    content_by_lua_block {
        local function work(name)
            enter(name, function ()
                coroutine.yield()
                enter("in " .. name, coroutine.yield)
            end)
        end

        local a, b, abandoned
        enter("root", function ()
            enter("main", function ()
                a = coroutine.create(work)
                b = coroutine.wrap(work)
            end)
            abandoned = coroutine.wrap(work)
            enter("main", function ()
                coroutine.resume(a, "a")
                b("b")
                abandoned("abandoned")
                ngx.sleep(0.005)
                enter("in main", function () end)
                coroutine.resume(a)
                b()
                coroutine.resume(a)
                b()
            end)
        end)
        abandoned = nil
        collectgarbage()
        ngx.location.capture("/one")
        ngx.say("ok")
    }
}
location /one { return 204; }
--- tree
SERVER GET /t 200
  INTERNAL root
    INTERNAL main
    INTERNAL main
      INTERNAL in main
    INTERNAL a
      INTERNAL in a
    INTERNAL b
      INTERNAL in b
    INTERNAL abandoned outlives
  INTERNAL subrequest /one 204



=== TEST 16: spans of each phase
--- http
upstream up {
    server 0.0.0.1;
    balancer_by_lua_block {
        enter("balancer", function ()
            require("ngx.balancer").set_current_peer("$TEST_NGINX_UPSTREAM")
        end)
    }
}
init_worker_by_lua_block {
    enter("init_worker", function (span) assert(not span.is_traced) end)
    assert(not trace.start_span("init_worker").is_traced)
}
exit_worker_by_lua_block {
    enter("exit_worker", function (span) assert(not span.is_traced) end)
}
--- config
location /t {
    set_by_lua_block $set {
        return enter("set", function () return "v" end)
    }
    rewrite_by_lua_block { enter("rewrite", sleep, 0.001) }
    access_by_lua_block { enter("access", sleep, 0.001) }
    content_by_lua_block {
        enter("content", function ()
            ngx.sleep(0.001)
            ngx.say(ngx.var.set)
        end)
    }
    header_filter_by_lua_block { enter("header filter", function () end) }
    body_filter_by_lua_block {
        if not ngx.arg[2] then
            enter("body filter", function () end)
        end
    }
    log_by_lua_block { enter("log", function () end) }
}
location /up { proxy_pass http://up; }
--- client eval: sub { like(get('/up', '/t'), qr/\nv\n/, 'set_by_lua returns v') }
--- tree
SERVER GET /up 200
  CLIENT GET 200
  INTERNAL balancer
SERVER GET /t 200
  INTERNAL set
  INTERNAL rewrite
  INTERNAL access
  INTERNAL content
    INTERNAL header filter
    INTERNAL body filter
  INTERNAL log may-outlive



=== TEST 17: not recorded: no span, no table, no function, and all is passed on
--- http
init_worker_by_lua_block {
    -- what |n| calls leave behind, in bytes of each
    function bytes(n, fn, ...)
        collectgarbage()
        collectgarbage("stop")
        local before = collectgarbage("count")
        for _ = 1, n do
            fn(...)
        end
        local after = collectgarbage("count")
        collectgarbage("restart")
        return (after - before) * 1024 / n
    end
}
--- config
location /t {
    trace internal off;
    content_by_lua_block {
        jit.off()
        local function request()
            return require("resty.core.base").get_request()
        end
        local function work(span)
            span:set_attribute("k", "v")
            span:set_attributes(ngx)
            span:add_event("e")
            span:update_name("n")
            span:finish()
        end
        local least = 2 * bytes(10000, request)

        for _, pipeline in ipairs { trace, trace.internal, trace.user } do
            assert(not pipeline.start_span("a").is_traced)
            for _, name in ipairs {
                "enter_span", "start_active_span", "start_span"
            } do
                local n = bytes(10000, pipeline[name], "a", work)
                assert(n <= least, name .. ": " .. n .. ", not " .. least)
            end
        end

        jit.on()
        local function none() end
        assert(bytes(10000, enter, "a", none) < 16)

        local a, b, c, d = enter("a", function (span, ...)
            return span.is_traced, ...
        end, nil, 3, nil)
        ngx.say(a, b, c, d)
        ngx.say(pcall(enter, "a", function () error("no", 0) end))
    }
}
--- response_body
falsenil3nil
falseno
--- check_spans eval: sub { is(scalar @_, 0, 'there is no span') }
--- span_count: 0



=== TEST 18: the attempt hangs below a span that access_by_lua has left current
--- config
location /t {
    access_by_lua_block {
        local other = ngx.thread.spawn(function ()
            trace.start_active_span("thread", function () end)
            ngx.sleep(0.01)
        end)
        trace.start_active_span("a", function () ngx.sleep(0.005) end)
        enter("b", sleep, 0.001)
    }
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
location /none {
    access_by_lua_block { trace.start_span("a") }
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
--- client eval: sub { get('/t', '/none') }
--- tree
SERVER GET /t 200
  INTERNAL thread
  INTERNAL a
    INTERNAL b
    CLIENT GET 200
SERVER GET /none 200
  INTERNAL a
  CLIENT GET 200



=== TEST 19: one pipeline or both
--- http
trace user on;
--- config
location /t {
    content_by_lua_block {
        enter("both", function (span)
            span:set_attribute("k", 1)
            trace.internal.enter_span("operator", function (span)
                span:set_attribute("secret", 2)
                trace.user.enter_span("tenant", function (span)
                    span:set_attribute("k", 3)
                    ngx.location.capture("/one")
                end)
            end)
            trace.user.start_active_span("open", function () end)
            trace.internal.start_span("started"):finish()
        end)
        ngx.say("ok")
    }
}
location /one { return 204; }
--- tree
internal:
SERVER GET /t 200
  INTERNAL both k=1
    INTERNAL operator secret=2
      INTERNAL subrequest /one 204
    INTERNAL started
user:
SERVER GET /t 200
  INTERNAL both k=1
    INTERNAL tenant k=3
      INTERNAL subrequest /one 204
    INTERNAL open outlives



=== TEST 20: in one pipeline, where the other one records nothing
--- http
trace user on;
--- config
location /t {
    trace internal off;
    content_by_lua_block {
        enter("both", function ()
            trace.user.enter_span("user", function ()
                trace.internal.enter_span("internal", function (span)
                    assert(not span.is_traced)
                end)
                ngx.say("ok")
            end)
        end)
    }
}
--- tree
user:
SERVER GET /t 200
  INTERNAL both
    INTERNAL user



=== TEST 21: attributes and events
--- config
location /t {
    content_by_lua_block {
        local many = {}
        for i = 1, 130 do
            many["k" .. i] = i
        end

        enter("types", function (span)
            span:set_attribute("s", "a\255b")
            span:set_attribute("i", -7)
            span:set_attribute("big", 2^53)
            span:set_attribute("bigger", 2^60)
            span:set_attribute("d", 0.5)
            span:set_attribute("inf", -1/0)
            span:set_attributes { t = true, f = false, i = 8 }
            span:set_attributes { table = {}, [1] = "no name" }
            span:set_attribute(nil, 1)
            span:set_attribute("nil", nil)
            span:set_attributes(nil)
            span:update_name(12)
            span:add_event("e", { k = "v", table = {}, n = 1 })
            span:add_event("f")
        end)
        enter("many", function (span) span:set_attributes(many) end)
        enter("event", function (span) span:add_event("e", many) end)
        ngx.say("ok")
    }
}
--- check_spans eval
sub {
    my %span = map { $_->{name} => $_ } @_;

    is(scalar keys %{$span{many}{attributes}}, 128, '128 attributes');
    is(scalar keys %{$span{event}{events}[0]{attributes}}, 128,
        '128 of an event');
    is($span{12}{attributes}{s}, "a\x{fffd}b", 'what is no UTF-8 is replaced');
}
--- tree
SERVER GET /t 200
  INTERNAL 12 i=8 big=9007199254740992 bigger~^1152921504606846976|1.15 d=0.5 t=true f=false dropped_attributes_count=4
    * e k=v n=1 dropped_attributes_count=1
    * f
  INTERNAL many dropped_attributes_count=2
  INTERNAL event
    * e dropped_attributes_count=2



=== TEST 22: what leaves a phase without returning ends the spans it is in
--- config
location /t {
    access_by_lua_block {
        enter("a", function ()
            coroutine.wrap(function ()
                enter("b", function () ngx.sleep(0.001) ngx.exit(ngx.OK) end)
            end)()
        end)
    }
    content_by_lua_block {
        enter("c", function () ngx.exec("/exec") end)
    }
}
location /exec {
    content_by_lua_block {
        enter("d", function () ngx.redirect("/elsewhere") end)
    }
}
location /filter {
    return 204;
    header_filter_by_lua_block {
        enter("filter", function (span)
            ngx.exit(503)
            span:set_attribute("goes", "on")
        end)
    }
}
--- client eval: sub { get('/t', '/filter') }
--- tree
SERVER GET /exec 302
  * redirect
  INTERNAL a
    INTERNAL b
  INTERNAL c
  INTERNAL d
SERVER GET /filter 503 error=503
  INTERNAL filter goes=on
  INTERNAL filter goes=on



=== TEST 23: a light thread that is killed leaves its span open, and nothing else
--- config
location /t {
    access_by_lua_block {
        local thread = ngx.thread.spawn(function ()
            enter("killed", sleep, 1)
        end)
        ngx.thread.kill(thread)
    }
    content_by_lua_block {
        enter("a", function ()
            ngx.thread.wait(ngx.thread.spawn(function ()
                enter("b", function () end)
            end))
        end)
        ngx.say("ok")
    }
}
--- tree
SERVER GET /t 200
  INTERNAL killed
  INTERNAL a
    INTERNAL b



=== TEST 24: a subrequest's own Lua code
--- config
location /t {
    content_by_lua_block {
        enter("a", function ()
            local res = ngx.location.capture("/one")
            ngx.print(res.body)
        end)
    }
}
location /one {
    content_by_lua_block {
        enter("b", function ()
            ngx.location.capture("/two")
            ngx.thread.wait(ngx.thread.spawn(function ()
                enter("c", function () ngx.location.capture("/two") end)
            end))
            ngx.say("ok")
        end)
    }
}
location /two { return 204; }
--- response_body
ok
--- tree
SERVER GET /t 200
  INTERNAL a
    INTERNAL subrequest /one 200
      INTERNAL b
        INTERNAL subrequest /two 204
        INTERNAL c
          INTERNAL subrequest /two 204



=== TEST 25: without the module, or with another version of it, it says so
--- http_config
lua_package_path "$TEST_NGINX_LUA/?.lua;;";
init_by_lua_block {
    local ffi = require "ffi"
    local C = ffi.C
    local versions = { 2, nil }

    -- what ffi.C has is seen when the file is loaded
    function load_with(version)
        ffi.C = setmetatable({}, { __index = function (_, name)
            if name ~= "ngx_http_trace_api_version" then
                return C[name]
            end
            return version and function () return version end
                or error("undefined symbol: " .. name)
        end })
        package.loaded["resty.trace"] = nil
        local _, err = pcall(require, "resty.trace")
        ffi.C = C
        return err:match("^[^\n]*: (resty.trace .*)$")
    end
    said = load_with(2) .. "\n" .. load_with(nil)
}
--- config
location /t { content_by_lua_block { ngx.say(said) } }
--- response_body
resty.trace is for version 1 of ngx_http_trace_module's API, not 2
resty.trace needs ngx_http_trace_module, see load_module



=== TEST 26: the example of enter_span
--- example: enter_span



=== TEST 27: the example of enter_span
--- example: enter_span



=== TEST 28: the example of start_active_span
--- example: start_active_span



=== TEST 29: the example of start_span
--- example: start_span



=== TEST 30: the example of set_attribute
--- example: set_attribute



=== TEST 31: the example of set_attributes
--- example: set_attributes



=== TEST 32: the example of add_event
--- example: add_event



=== TEST 33: the example of update_name
--- example: update_name



=== TEST 34: the example of is_traced
--- example: is_traced



=== TEST 35: the example of What is current where
--- example: What is current where

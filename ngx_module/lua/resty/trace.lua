-- Spans of Lua code, over the C functions of ngx_http_trace_module.
-- docs/lua-api.md says what they do.

local ffi = require "ffi"
local base = require "resty.core.base"
local exdata2 = require "thread.exdata2"

local C = ffi.C
local get_request = base.get_request
local get_phase = ngx.get_phase
local create, wrap = coroutine.create, coroutine.wrap
local setmetatable, type, tostring = setmetatable, type, tostring
local error, pcall, xpcall, next = error, pcall, xpcall, next
local floor, abs, band = math.floor, math.abs, bit.band
local traceback = debug.traceback

local VERSION = 1

ffi.cdef [[
typedef struct {
    const unsigned char  *key;
    size_t                key_len;
    uint32_t              type;
    uint32_t              boolean;
    int64_t               integer;
    double                number;
    const unsigned char  *string;
    size_t                string_len;
} ngx_http_trace_api_attribute_t;

/* these return small numbers, and an int needs no memory of Lua's */
int ngx_http_trace_api_version(void);
int ngx_http_trace_recording(ngx_http_request_t *r);

void ngx_http_trace_span_set(uint64_t span,
    const ngx_http_trace_api_attribute_t *attributes, uintptr_t n);
void ngx_http_trace_span_event(uint64_t span, const unsigned char *name,
    size_t len, const ngx_http_trace_api_attribute_t *attributes, uintptr_t n);
void ngx_http_trace_span_rename(uint64_t span, const unsigned char *name,
    size_t len);
void ngx_http_trace_span_status(uint64_t span, uintptr_t status);
void ngx_http_trace_span_close(uint64_t span);

uint64_t ngx_http_trace_lua_open(ngx_http_request_t *r, void *thread,
    const unsigned char *name, size_t len, uintptr_t pipelines, uintptr_t how);
void ngx_http_trace_lua_leave(ngx_http_request_t *r, uint64_t span);
uint64_t ngx_http_trace_lua_current(ngx_http_request_t *r, void *thread);
void ngx_http_trace_lua_begin(ngx_http_request_t *r, void *thread,
    uint64_t span);
void ngx_http_trace_lua_end(ngx_http_request_t *r, void *thread);
void ngx_http_trace_lua_exception(uint64_t span,
    const ngx_http_trace_api_attribute_t *attributes, uintptr_t n);
void ngx_http_trace_lua_capture(ngx_http_request_t *r, void *thread,
    uintptr_t begin);
]]

local loaded, version = pcall(function ()
    return C.ngx_http_trace_api_version()
end)

if not loaded then
    error("resty.trace needs ngx_http_trace_module, see load_module")
end

if version ~= VERSION then
    error("resty.trace is for version " .. VERSION
          .. " of ngx_http_trace_module's API, not " .. version)
end


-- as in ngx_http_trace_api.h
local INTERNAL, USER, BOTH = 1, 2, 3
local STRING, INT, DOUBLE, BOOL = 0, 1, 2, 3
local ERROR = 2
local NO_SPAN = 0ULL

-- of an error, in bytes
local MESSAGE_MAX, STACK_MAX = 4096, 16384

-- as in ngx_http_trace_lua.c
local START, ACTIVATE, ENTER = 0, 1, 2

-- where nginx has no request, though Lua has one
local no_request = {
    init_worker = true, exit_worker = true, timer = true, ssl_cert = true,
    ssl_session_store = true, ssl_session_fetch = true,
    ssl_client_hello = true,
}


-- the request that |pipelines| record, or nil

local function recorded(pipelines)
    local r = get_request()

    if r == nil or no_request[get_phase()]
       or band(C.ngx_http_trace_recording(r), pipelines) == 0
    then
        return nil
    end

    return r
end


-- attributes: what most spans have fits into the first array

local attributes_t = ffi.typeof("ngx_http_trace_api_attribute_t[?]")
local ROOM = 16
local room = attributes_t(ROOM)


local function text(name)
    return type(name) == "string" and name or tostring(name)
end


-- without a key an attribute is left out, and counted

local function fill(attribute, key, value)
    local kind = type(value)

    attribute.key_len = type(key) == "string" and #key or 0

    if kind == "string" then
        attribute.type = STRING
        attribute.string = value
        attribute.string_len = #value

    elseif kind == "number" then

        if floor(value) == value and abs(value) <= 2^53 then
            attribute.type = INT
            attribute.integer = value

        else
            attribute.type = DOUBLE
            attribute.number = value
        end

    elseif kind == "boolean" then
        attribute.type = BOOL
        attribute.boolean = value and 1 or 0

    else
        attribute.key_len = 0
    end

    if attribute.key_len ~= 0 then
        attribute.key = key
    end
end


-- Until C has read them, nothing calls Lua, and nothing takes memory: nobody else
-- uses the room, and no string is collected.

local function fill_all(t)
    if type(t) ~= "table" then
        return room, 0
    end

    local attributes, n = room, 0

    for _ in next, t do
        n = n + 1
    end

    if n > ROOM then
        attributes = attributes_t(n)
    end

    n = 0

    for key, value in next, t do
        fill(attributes[n], key, value)
        n = n + 1
    end

    return attributes, n
end


local Span = { is_traced = true }
Span.__index = Span


function Span:set_attribute(key, value)
    fill(room[0], key, value)
    C.ngx_http_trace_span_set(self.handle, room, 1)
end


function Span:set_attributes(t)
    C.ngx_http_trace_span_set(self.handle, fill_all(t))
end


function Span:add_event(name, t)
    name = text(name)
    C.ngx_http_trace_span_event(self.handle, name, #name, fill_all(t))
end


function Span:update_name(name)
    name = text(name)
    C.ngx_http_trace_span_rename(self.handle, name, #name)
end


function Span:finish()
    C.ngx_http_trace_span_close(self.handle)
end


-- all that is not recorded

local function nothing()
end

local none = { is_traced = false }

for name, value in pairs(Span) do
    if type(value) == "function" then
        none[name] = nothing
    end
end


local function open(r, name, pipelines, how)
    name = text(name)

    local handle = C.ngx_http_trace_lua_open(r, exdata2(), name, #name,
                                             pipelines, how)

    if handle == NO_SPAN then
        return none
    end

    return setmetatable({ handle = handle }, Span)
end


-- an error, and where it was thrown

local stack

local function thrown(err)
    stack = traceback("", 2):sub(2)
    return err
end


local function returned(span, r, how, ok, ...)
    if not ok then
        local err = ...
        local described, message = pcall(tostring, err)

        message = described and text(message):sub(1, MESSAGE_MAX) or ""
        stack = stack and stack:sub(1, STACK_MAX) or ""

        fill(room[0], "exception.type", type(err))
        fill(room[1], "exception.message", message)
        fill(room[2], "exception.stacktrace", stack)

        C.ngx_http_trace_lua_exception(span.handle, room, 3)
        stack = nil

        C.ngx_http_trace_span_status(span.handle, ERROR)
    end

    if how == ENTER then
        C.ngx_http_trace_lua_leave(r, span.handle)
    end

    if not ok then
        error(..., 0)
    end

    return ...
end


local function run(pipelines, how, name, fn, ...)
    local r = recorded(pipelines)
    local span = r and open(r, name, pipelines, how) or none

    if span == none then
        return fn(none, ...)
    end

    return returned(span, r, how, xpcall(fn, thrown, span, ...))
end


local function api(pipelines)
    return {
        enter_span = function (name, fn, ...)
            return run(pipelines, ENTER, name, fn, ...)
        end,

        start_active_span = function (name, fn, ...)
            return run(pipelines, ACTIVATE, name, fn, ...)
        end,

        start_span = function (name)
            local r = recorded(pipelines)
            return r and open(r, name, pipelines, START) or none
        end,
    }
end


local function ended(r, thread, ...)
    C.ngx_http_trace_lua_end(r, thread)
    return ...
end


-- A function that begins where it was made: a light thread and a coroutine have
-- the current span of their creator.

local function inherit(fn)
    local r = type(fn) == "function" and recorded(BOTH)

    if not r then
        return fn
    end

    local span = C.ngx_http_trace_lua_current(r, exdata2())

    return function (...)
        local thread = exdata2()

        -- a filter has coroutines, but no threads
        if thread == nil then
            return fn(...)
        end

        C.ngx_http_trace_lua_begin(r, thread, span)

        return ended(r, thread, fn(...))
    end
end


function coroutine.create(fn)
    return create(inherit(fn))
end


function coroutine.wrap(fn)
    return wrap(inherit(fn))
end


local spawn = ngx.thread.spawn

function ngx.thread.spawn(fn, ...)
    return spawn(inherit(fn), ...)
end


-- Subrequests begin when the thread has yielded, and others may have run.

local function captured(r, ok, ...)
    C.ngx_http_trace_lua_capture(r, exdata2(), 0)

    if not ok then
        error(..., 0)
    end

    return ...
end


for _, name in ipairs { "capture", "capture_multi" } do
    local capture = ngx.location[name]

    ngx.location[name] = function (...)
        local r = recorded(BOTH)

        if not r then
            return capture(...)
        end

        C.ngx_http_trace_lua_capture(r, exdata2(), 1)

        return captured(r, pcall(capture, ...))
    end
end


-- These do not come back to the functions that have called them.

for _, name in ipairs { "exit", "exec", "redirect" } do
    local leave = ngx[name]

    ngx[name] = function (...)

        -- a filter goes on
        if exdata2() ~= nil then
            local r = recorded(BOTH)

            if r then
                C.ngx_http_trace_lua_leave(r, NO_SPAN)
            end
        end

        return leave(...)
    end
end


local trace = api(BOTH)

trace.internal = api(INTERNAL)
trace.user = api(USER)

return trace

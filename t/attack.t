# The hostile client: headers that it forges are seen nowhere, bytes that it
# chooses split nothing and spoil no batch, it makes nobody record more than the
# operator wants, and it is served as without the module.

use strict;
use warnings;
use Hostile;
use H2;
use JSON::PP ();
use Nginx;
use Receiver;
use Test::More;

our $T = '0af7651916cd43dd8448eb211c80319c';
our $P = 'b7ad6b7169203331';
our $VALID = "traceparent: 00-$T-$P-01";
our $DIR = $ENV{TEST_NGINX_DIR};

# what is in all that is forged: wherever this is seen, so was the header
our $MARK = '5ca1ab1e0ddba11facade0ff1ce0cafe';
our @FORGED = qw(x-op-traceparent x-op-tracestate x-u-traceparent
    x-u-tracestate);

$ENV{TEST_NGINX_SEEN} = join ' ', (map { '$http_' . tr{-}{_}r } @FORGED,
    'x-debug', 'x-plain'), map { ("\$internal_$_", "\$user_$_") }
    qw(traceparent tracestate trace_id parent_id);

upstream($_) for qw(fastcgi scgi uwsgi grpc);

# a receiver that keeps the heads of requests

$ENV{TEST_NGINX_RAW} = "unix:$DIR/raw.sock";

our $raw = Receiver->new(socket => "$DIR/raw.sock", answer => sub {
    my ($socket, $n, $request) = @_;

    open my $fh, '>>', "$DIR/raw.heads" or die "raw.heads: $!";
    print $fh $request->{head} =~ s/(?<=: )\d+/N/r, "\0";
    close $fh;

    return Receiver::ok($socket);
});

our $LIMITS = <<'_EOC_';
underscores_in_headers on;
large_client_header_buffers 64 32k;
client_max_body_size 100;
proxy_buffer_size 64k;
proxy_buffers 8 64k;
proxy_busy_buffers_size 128k;
_EOC_

our $TRACE = <<'_EOC_';
trace internal on;
trace user on;
trace_routing acme;
trace_context internal propagate header=x-op-traceparent;
trace_context user propagate header=x-u-traceparent;
_EOC_

our $HTTP = $LIMITS . $TRACE . <<'_EOC_';
log_format seen escape=none '$TEST_NGINX_SEEN';
map "$TEST_NGINX_SEEN" $mapped { default "$TEST_NGINX_SEEN"; }
proxy_set_header Host localhost;
fastcgi_param REQUEST_URI $request_uri;
scgi_param REQUEST_URI $request_uri;
uwsgi_param REQUEST_URI $request_uri;
_EOC_

compare(prefixes => ['x-op-', 'x-u-'], http => $LIMITS . join '', map {
    my ($name, $trace) = @$_;

    "server {
        listen unix:\$TEST_NGINX_DIR/$name.sock;
        $trace
        location / { proxy_pass http://\$TEST_NGINX_UPSTREAM; }
    }\n"
} ['on', $TRACE], ['off', '']);

# Servers that read the headers in every place. What reads one first decides
# what others see of it, as nginx keeps the value: so "quiet" has the log alone.

our $WALL = <<'_EOC_';
server {
    listen unix:$TEST_NGINX_DIR/wall.sock;
    listen unix:$TEST_NGINX_DIR/wall.h2.sock http2;
    access_log $TEST_NGINX_DIR/wall.log seen;

    if ($mapped ~ (.+)) { set $in_if $1; }
    set $in_map $mapped;
    set $in_set "$TEST_NGINX_SEEN";

    add_header x-set $in_set always;
    add_header x-map $in_map always;
    add_header x-if $in_if always;
    add_header x-header "$TEST_NGINX_SEEN" always;
    trace_attribute both seen "$TEST_NGINX_SEEN";

    error_page 400 404 405 413 418 494 501 /error;

    location / { proxy_pass http://$TEST_NGINX_UPSTREAM; }
    location @named { proxy_pass http://$TEST_NGINX_UPSTREAM; }
    location /fastcgi { fastcgi_pass unix:$TEST_NGINX_DIR/fastcgi.sock; }
    location /scgi { scgi_pass unix:$TEST_NGINX_DIR/scgi.sock; }
    location /uwsgi { uwsgi_pass unix:$TEST_NGINX_DIR/uwsgi.sock; }
    location /echo/ { grpc_pass grpc://unix:$TEST_NGINX_DIR/grpc.sock; }
    location /off {
        trace internal off;
        trace user off;
        proxy_pass http://$TEST_NGINX_UPSTREAM;
    }
    location /sub {
        ssi on;
        auth_request /auth;
        mirror /mirror;
        proxy_pass http://$TEST_NGINX_UPSTREAM;
    }
    location /intercepted {
        proxy_intercept_errors on;
        error_page 503 = @named;
        proxy_pass http://$TEST_NGINX_UPSTREAM;
    }
    location /tried { try_files /none @named; }
    location /returned { return 418; }
    location /missing { root $TEST_NGINX_DIR/none; }
    location /large {
        client_max_body_size 1;
        error_page 413 = @named;
        proxy_pass http://$TEST_NGINX_UPSTREAM;
    }
    location @refused {
        if ($mapped ~ (.+)) { set $in_if $1; }
        set $in_map $mapped;
        set $in_set "$TEST_NGINX_SEEN";
        proxy_pass http://$TEST_NGINX_UPSTREAM;
    }
}
_EOC_

our $QUIET = <<'_EOC_';
server {
    listen unix:$TEST_NGINX_DIR/quiet.sock;
    listen unix:$TEST_NGINX_DIR/quiet.h2.sock http2;
    access_log $TEST_NGINX_DIR/quiet.log seen;
    location /t { proxy_pass http://$TEST_NGINX_UPSTREAM; }
    location /missing { root $TEST_NGINX_DIR/none; }
    location /large {
        client_max_body_size 1;
        proxy_pass http://$TEST_NGINX_UPSTREAM;
    }
}
_EOC_

# Other ways to answer what is refused: a page of nginx's with a header
# of our own, and pages that are asked for by a name or a variable.

our $ERRORS = join '',
    $QUIET =~ s/quiet[.]/direct./gr
        =~ s/access_log/add_header x-header "\$TEST_NGINX_SEEN" always; $&/r,
    map { my ($name, $page) = @$_;
          $WALL =~ s/wall[.]/$name./gr =~ s{ /error;}{ $page;}r }
    ['named', '@refused'], ['asked', '/error?id=$internal_trace_id'],
    ['user', '/error?id=$user_parent_id'];

# what is done with a request of each path: who is asked how often

our %PATHS = (
    '/t' => ['http'], '/off' => ['http'],
    '/fastcgi' => ['fastcgi'], '/scgi' => ['scgi'], '/uwsgi' => ['uwsgi'],
    '/echo/t' => ['grpc'], '/tried' => ['http'], '/returned' => ['http'],
    '/missing' => ['http'], '/large' => ['http'],
    '/sub?body=<!--%23include%20virtual="/included"-->' => [('http') x 4],
    '/intercepted?status=503' => [('http') x 2],
    '/accel?redirect=/t' => [('http') x 2],
);

sub main::file_of {
    open my $fh, '<:raw', "$DIR/$_[0]" or die "$_[0]: $!";
    local $/;
    return <$fh> // '';
}

# the lines of a request that forges headers of these names, in each way

sub main::forgeries {
    my @names = @_;
    my $each = sub { my $line = shift; [map { $line->($_) } @names] };
    my $value = sub { $_[0] =~ /parent/ ? "00-$MARK-$P-01" : "a=$MARK" };
    my @cases = map { my $case = $_;
        sub { $case->($_[0]) . ': ' . $value->($_[0]) } }
        sub { $_[0] },
        sub { uc $_[0] },
        sub { $_[0] =~ s/(\w+)/\u$1/gr },
        sub { $_[0] =~ tr{-}{_}r },
        sub { uc $_[0] =~ tr{-}{_}r },
        sub { $_[0] =~ s/-/_/r },
        sub { $_[0] =~ s/-(?=[^-]*\z)/_/r };
    my ($plain, $underscored) = @cases[0, 3];

    return (
        (map { $each->($_) } @cases),
        $each->(sub { ($plain->(@_)) x 2 }),
        $each->(sub { ($underscored->(@_)) x 2 }),
        $each->(sub { $plain->(@_), $underscored->(@_) }),
        $each->(sub { $underscored->(@_), $plain->(@_) }),
        $each->(sub { "$_[0]:", $plain->(@_) }),
        $each->(sub { "$_[0]: \t" . $value->(@_) . "\t" }),
        $each->(sub { "$_[0]: " . $MARK . 'z' x 8000 }),
        $each->(sub { ($_[0] =~ tr{-}{_}r) . ': ' . $MARK . 'z' x 8000 }),
        [(map { "x-$_: 1" } 1 .. 300), @{$each->($underscored)}],
        $each->(sub { map { $plain->(@_), $underscored->(@_) } 1 .. 50 }),
    );
}

sub main::request_of {
    my ($path, @headers) = @_;
    my @head = ('Host: localhost', 'Connection: close', @headers);

    return raw("POST $path HTTP/1.1", @head, 'Content-Type: application/grpc',
        'TE: trailers', 'Content-Length: 5') . "\0" x 5 if $path =~ /^.echo/;
    return raw("POST $path HTTP/1.1", @head, 'Content-Length: 5') . '12345'
        if $path eq '/large';
    return raw("GET $path HTTP/1.1", @head);
}

# what is seen in each place of |@requests| to |$server|, which leave |$n| spans
# and ask the upstreams as often as |%$asked| says

sub main::places {
    my ($name, $server, $n, $asked, @requests) = @_;
    my $log = length main::file_of("$server.log");
    my %place;

    $_->requests for map { upstream($_) } keys %$asked;

    for (@requests) {
        my $response = ref ? $_->() : exchange($_, "unix:$DIR/$server.sock");

        $place{$1} .= $2
            while $response =~ /^x-(set|map|if|header): (.*)$/mg;
    }

    my @spans = grep { $_->{kind} eq 'SERVER' } my @all
        = spans_until($n, 'SERVER');

    is(scalar @spans, $n, "$name - spans");
    $place{spans} = JSON::PP->new->canonical->encode(\@all);
    $place{log} = substr main::file_of("$server.log"), $log;

    for my $protocol (keys %$asked) {
        my @got = upstream($protocol)->requests($asked->{$protocol});

        is(scalar @got, $asked->{$protocol}, "$name - $protocol requests");
        main::own_headers("$name - $protocol", @got);
        $place{$protocol} = JSON::PP->new->latin1->encode(\@got);
    }

    return \%place;
}

# the places that have the mark

sub main::seen_in {
    my $place = shift;

    return join ' ', sort grep { $place->{$_} =~ /$MARK/i } keys %$place;
}

# each has a traceparent of each pipeline, once, whatever the name is for others

sub main::own_headers {
    my ($name, @requests) = @_;
    my %wrong;

    for my $request (grep { $_->{line} !~ m{/off} } @requests) {
        my %n;

        $n{$_}++ for map { lc =~ s/\Ahttp_//r =~ tr{_}{-}r }
            grep { /trace.?(?:parent|state)\z/i }
            map { $_->[0] } @{$request->{headers}};
        my $names = join ' ', map { "$_ $n{$_}" } sort keys %n;

        $wrong{$names} = $request->{line}
            if $names ne 'x-op-traceparent 1 x-u-traceparent 1';
    }

    is_deeply(\%wrong, {}, "$name - one header of each pipeline");
}

# each header in |@forgeries| with a request to each path

sub main::everywhere {
    my ($name, $server, @forgeries) = @_;
    my (@requests, %asked);

    for my $path (sort keys %PATHS) {
        $asked{$_} += @forgeries for @{$PATHS{$path}};
        push @requests, map { main::request_of($path, @$_) } @forgeries;
    }

    return main::seen_in(main::places($name, $server,
        2 * @forgeries * (keys(%PATHS) - 1), \%asked, @requests));
}

# requests that nginx refuses, with these lines in front of what is wrong

sub main::malformed {
    my @lines = @_;
    my @start = ('GET /t HTTP/1.1', 'Connection: close');
    my @head = (@start, 'Host: localhost', @lines);

    return (
        (map { raw(@head, $_) } 'no colon', ' folded', "\tfolded", 'a b: c',
            "nul: \0", "x\0: nul", ': none', 'x-long: ' . 'x' x 40000,
            'Host: other', 'Content-Length: 1x', 'Content-Length: -1',
            'Transfer-Encoding: what'),
        raw(@start, @lines), raw(@start, @lines, 'Host: a/b'),
        raw(@head, 'Content-Length: 1', 'Content-Length: 1'),
        raw('POST /t HTTP/1.1', @head[1 .. $#head], 'Content-Length: 1000')
            . 'x' x 1000,
        raw('POST /missing HTTP/1.1', @head[1 .. $#head],
            'Transfer-Encoding: chunked') . raw('0', @lines),
        raw('TRACE /t HTTP/1.1', @head[1 .. $#head]),
        raw('GET /missing HTTP/1.1', @head[1 .. $#head]));
}

# of a client that leaves before the last line of the header

sub main::cut {
    my ($server, $bytes) = @_;
    my $socket = IO::Socket::UNIX->new("$DIR/$server.sock") or die "$!";

    syswrite $socket, $bytes =~ s/[^\n]*\n\r\n\z//r;
    shutdown $socket, 1;
    read $socket, my $response, 1;

    return '';
}

# what is seen of them at these servers

sub main::refused {
    my @plain = main::malformed((map { @$_ } main::forgeries('x-plain'))[0]);
    my @forged = map { main::malformed(@$_) }
        (main::forgeries(@FORGED))[0, 3, 9];
    my %places = (quiet => 'log', direct => 'header log');

    for my $server (@_) {
        for my $forged (0, 1) {
            my @sent = $forged ? @forged : @plain;
            my $name = $server . ($forged ? ', forged' : ', plain');

            push @sent, sub { main::cut($server, $sent[0]) }
                if $server eq 'quiet';

            my $place = main::places($name, $server, 2 * @sent,
                $places{$server} ? {} : { http => scalar @sent }, @sent);
            my $n = () = $place->{log} =~ /$MARK.*\n/g;

            is($n, $forged ? 0 : @sent, "$name - logged");
            is(main::seen_in($place), $forged ? '' : $places{$server}
                // 'header http if log map set spans', "$name - seen");
        }
    }
}

# what scripts make of a request: who it is from, and a context of each pipeline

our $SCRIPTS = <<'_EOC_';
location /more/who {
    more_set_input_headers "Authorization: operator" "User-Agent: operator";
    proxy_pass http://app;
}
location /more/user {
    more_clear_input_headers traceparent;
    more_set_input_headers "traceparent: written";
    set $to app;
    proxy_pass http://$to;
}
location /more/internal {
    more_set_input_headers "x-op-$TEST_NGINX_VALID";
    proxy_pass http://app;
}
location /lua/who {
    access_by_lua_block {
        ngx.req.set_header("Authorization", "operator")
        ngx.req.set_header("User-Agent", "operator")
    }
    proxy_pass http://app;
}
location /lua/user {
    rewrite_by_lua_block {
        ngx.req.clear_header("traceparent")
        ngx.req.set_header("traceparent", "written")
    }
    set $to app;
    proxy_pass http://$to;
}
location /lua/internal {
    rewrite_by_lua_block {
        local name, value = ("x-op-$TEST_NGINX_VALID"):match("(.*): (.*)")
        ngx.req.set_header(name, value)
    }
    proxy_pass http://app;
}
_EOC_

$SCRIPTS =~ s{^location /lua.*}{}ms
    if ($ENV{TEST_NGINX_LOAD_MODULES} // '') !~ /_lua_/;
$ENV{TEST_NGINX_VALID} = $VALID;

# what has left of it, as lines without ids that are drawn

sub main::scripted {
    main::exchange(main::request(@_));

    my ($got) = main::upstream()->requests(1);

    return join '', sort map { s/\A(x-op-.*-)\w{16}-/$1ID-/r
            =~ s/\A(x-op-.*: 00-)(?!$T)\w+/$1NEW/r . "\n" }
        grep { /\A(?:authorization|user-agent|.*trace(?:parent|state)):/ }
        map { lc($_->[0]) . ": $_->[1]" } @{$got->{headers}};
}

# the fields of an HTTP/2 request, one after the other, not compressed; as in
# "name: value". With |$type| 0x40 they are kept for the next requests

sub main::h2_fields {
    my ($type, @lines) = @_;
    my $string = sub {
        my $text = shift;
        my $n = length $text;
        my $bytes = '';

        return chr($n) . $text if $n < 127;

        for ($n -= 127; $n > 127; $n >>= 7) {
            $bytes .= chr($n & 127 | 128);
        }

        return chr(127) . $bytes . chr($n) . $text;
    };

    return join '', map { /\A(:?[^:]*): ?(.*)\z/s;
        chr($type) . $string->($1) . $string->($2) } @lines;
}

# sends these header blocks as requests, one after the other on one connection;
# nginx closes it where it refuses a request

sub main::h2_talk {
    my ($server, $path, @blocks) = @_;
    my ($socket, $id);

    for my $fields (@blocks) {
        if (!$socket) {
            $socket = h2_connection("$DIR/$server.h2.sock");
            $id = 1;
        }

        my $block = main::h2_fields(0, ':method: GET', ':scheme: http',
            ":path: $path", ':authority: localhost') . $fields;

        syswrite $socket, H2::frame(1, 5, $id, $block);
        undef $socket if !main::h2_ended($socket, $id);
        $id += 2;
    }

    return '';
}

# reads until the stream has ended: false if the connection has

sub main::h2_ended {
    my ($socket, $id) = @_;

    while (read $socket, my $head, 9) {
        my ($high, $low, $type, $flags, $stream) = unpack 'CnCCN', $head;
        my $length = $high << 16 | $low;

        read($socket, my $payload, $length) == $length or return 0;
        return 1 if $stream == $id
            && ($type == 3 || $type < 2 && $flags & 1);
    }

    return 0;
}

no_long_string();
run_tests();

__DATA__

=== TEST 1: a forged header is seen nowhere, and what is no header of ours is
--- shows_internal: response export
--- http eval: $::HTTP . $::WALL
--- config
--- client eval
sub {
    main::is(main::everywhere('plain', 'wall', (main::forgeries('x-plain'))[0]),
        'fastcgi grpc header http if log map scgi set spans uwsgi',
        'where a header can be seen');
    main::is(main::everywhere('forged', 'wall', main::forgeries(@::FORGED)),
        '', 'where a forged one is');
}
--- error_log
client intended to send too large body



=== TEST 2: nor in the log, or at the page for errors, of refused requests
--- shows_internal: response export
--- http eval: $::HTTP . $::WALL . $::QUIET . $::ERRORS
--- config
--- client eval
sub { main::refused(qw(quiet wall named)) }
--- error_log
client intended to send too large body



=== TEST 3: whatever is asked for first, with names that are none let through
--- shows_internal: response export upstream
--- http eval
($::HTTP =~ s/underscores_in_headers on/ignore_invalid_headers off/r)
. $::WALL . $::QUIET . $::ERRORS
--- config
--- client eval
sub { main::refused(qw(direct asked user)) }
--- error_log
client intended to send too large body



=== TEST 4: nor by HTTP/2
--- shows_internal: response export
--- http eval: $::HTTP . $::WALL
--- config
--- client eval
sub {
    # pseudo-headers that are none, names in upper case, and fields of the
    # table: the first request leaves them there, others tell their numbers
    my %blocks = (
        plain => [map { main::h2_fields(0, map { lc } @$_) }
            main::forgeries('x-plain')],
        forged => [map { main::h2_fields(0, map { lc } @$_) }
            main::forgeries(@::FORGED)],
        pseudo => [map { main::h2_fields(0, ":$_: $::MARK") }
            'traceparent', @::FORGED],
        upper => [map { main::h2_fields(0, uc . ": $::MARK") } @::FORGED],
        kept => [main::h2_fields(0x40, map { "$_: $::MARK" } @::FORGED),
            "\xbe\xbf\xc0\xc1", "\xbe\xbe\xc1\xc1"]);

    for my $name (sort keys %blocks) {
        my @blocks = @{$blocks{$name}};
        my $asked = $name eq 'upper' ? 0 : @blocks;     # it resets them

        main::is(main::seen_in(main::places($name, 'wall', 2 * @blocks,
            { http => $asked },
            sub { main::h2_talk('wall', '/t', @blocks) })),
            $name eq 'plain' ? 'http log spans' : '', $name);
    }
}
--- error_log
client sent



=== TEST 5: in Lua, in each of its phases
--- shows_internal: response
--- skip_eval: 3: ($ENV{TEST_NGINX_LOAD_MODULES} // '') !~ /_lua_/
--- http eval
$::HTTP . <<'_EOC_'
server {
    listen unix:$TEST_NGINX_DIR/lua.sock;
    access_log $TEST_NGINX_DIR/lua.log seen;
    underscores_in_headers on;
    server_rewrite_by_lua_block { seen = look("server_rewrite") }
    rewrite_by_lua_block { seen = seen .. look("rewrite") }
    access_by_lua_block { seen = seen .. look("access") }
    header_filter_by_lua_block { ngx.header["x-set"] = seen .. look("header") }
    location / { content_by_lua_block { ngx.say(look("content")) } }
}
init_by_lua_block {
    function look(phase)
        local seen = "<" .. phase
        for name, value in pairs(ngx.req.get_headers(0)) do
            if name:match("trace") or name:match("plain") then
                seen = seen .. " " .. name .. "="
                    .. (type(value) == "table" and value[1] or value)
            end
        end
        return seen .. (ngx.var.http_x_op_tracestate or "") .. ";"
    end
}
_EOC_
--- config
--- client eval
sub {
    my $look = sub {
        my $response = main::exchange(main::request_of('/t', @_),
            "unix:$::DIR/lua.sock");

        return CORE::join ' ', $response =~ /<(\w+) [^;]*$::MARK/g;
    };

    is($look->("x-plain: $::MARK"),
        'server_rewrite rewrite access header content', 'plain');
    is($look->(@$_), '', substr "@$_", 0, 100) for main::forgeries(@::FORGED);
}
--- span_count: 36
--- check_spans eval
sub { is(scalar @_, 36, 'spans') }



=== TEST 6: what is refused, and what not, is as without the module
--- statuses: \d\d\d
--- error_log
client intended to send too large body
--- same eval
[(map { main::request_of('/t', @$_) }
     main::forgeries(@::FORGED, 'traceparent')),
 (map { main::malformed(@$_) } (main::forgeries(@::FORGED))[0, 9])]



=== TEST 7: a location that believes less than its server
--- http
underscores_in_headers on;
large_client_header_buffers 64 32k;
log_format seen '$uri $http_x_op_traceparent $http_x_op_tracestate';
map $http_x_key $known { secret 1; }
--- config
trace internal on;
trace_context internal propagate header=x-op-traceparent;
trace_trusted internal all;
access_log $TEST_NGINX_DIR/less.log seen;
location /t { proxy_pass http://$TEST_NGINX_UPSTREAM; }
location /less {
    trace_trusted internal 192.0.2.1 unix:;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
location /less/if {
    trace_trusted internal if=$known;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
location /less/off {
    trace internal off;
    trace_trusted internal unix:;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
location /less/sampled {
    trace internal $internal_parent_sampled;
    trace_trusted internal unix:;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
location /first {
    trace internal off;
    error_page 418 = /less;
    return 418;
}
location /rewritten { rewrite ^ /less last; }
--- prefix: x-op-
--- exchanges eval
my @names = qw(x-op-traceparent x-op-tracestate);
my ($plain, @others) = main::forgeries(@names);

[{ send => $plain, trace => [$::MARK, $::P], state => "a=$::MARK" },
 { uri => '/less/if', send => ['X-Key: secret', @$plain],
   trace => [$::MARK, $::P], state => "a=$::MARK" },
 (map { { uri => '/less', send => $_ } } $plain, @others),
 (map { my $uri = $_; map { { uri => $uri, send => $_ } } $plain, $others[2] }
     '/first', '/rewritten'),
 (map { { uri => '/less/if', send => ['X-Key: guess', @$_] } }
     $plain, $others[2]),
 (map { my $uri = $_;
     map { { uri => $uri, send => $_, left => [], spans => 0 } }
         $plain, @others } '/less/off', '/less/sampled')]
--- check_spans eval
sub {
    my %lines = map { s{^(\S+) .*$::MARK.*}{$1}sr => 1 }
        grep { /$::MARK/ } split /^/, main::file_of('less.log');

    is_deeply([sort keys %lines], ['/less/if', '/t'], 'logged');
}



=== TEST 8: one that believes more, and gets the headers back
--- http
underscores_in_headers on;
map $http_x_key $known { secret 1; }
trace internal on;
trace_context internal propagate header=x-op-traceparent;
server {
    listen unix:$TEST_NGINX_DIR/more.sock;
    server_name wall;
    location / { proxy_pass http://$TEST_NGINX_UPSTREAM; }
    location /more {
        trace_trusted internal unix:;
        proxy_pass http://$TEST_NGINX_UPSTREAM;
    }
    location /more/if {
        trace_trusted internal if=$known;
        proxy_pass http://$TEST_NGINX_UPSTREAM;
    }
    location /more/extract {
        trace_context internal extract;
        trace_trusted internal unix:;
        proxy_pass http://$TEST_NGINX_UPSTREAM;
    }
    location /more/off {
        trace internal off;
        trace_trusted internal unix:;
        proxy_pass http://$TEST_NGINX_UPSTREAM;
    }
    location /back { error_page 418 = /more; return 418; }
    location /late {
        proxy_intercept_errors on;
        error_page 503 = /more;
        proxy_pass http://$TEST_NGINX_UPSTREAM;
    }
}
server {
    listen unix:$TEST_NGINX_DIR/more.sock;
    server_name open;
    trace_trusted internal unix:;
    location / { proxy_pass http://$TEST_NGINX_UPSTREAM; }
}
--- config
--- prefix: x-op-
--- exchanges eval
my @send = ("X-Op-$::VALID", 'X-Op-TraceState: a=1');
my %back = (trace => [$::T, $::P], state => 'a=1');
my $to = sub { my $host = shift; bytes => main::raw('GET /t HTTP/1.1', @send,
    'Connection: close', "Host: $host") };

[map { { to => "unix:$::DIR/more.sock", send => \@send, %$_ } }
     {},
     { uri => '/more', %back },
     { uri => '/more/if' },
     { uri => '/more/if', send => [@send, 'X-Key: guess'] },
     { uri => '/more/if', send => ['X-Key: secret', @send], %back },
     { uri => '/more/extract', left => \@send, %back },
     { uri => '/more/off', left => \@send, spans => 0 },
     { uri => '/back', %back },
     { uri => '/late?status=503', requests => 2 },
     { uri => '/more', send => ["x-op-$::VALID", @send] },
     { $to->('open'), %back },
     { $to->('OPEN:80'), %back },
     { $to->('wall') },
     { $to->('other') }]



=== TEST 9: what was read while it was believed is not believed for that
--- config
trace internal on;
trace_context internal propagate header=x-op-traceparent;
trace_trusted internal all;
set $early "$internal_traceparent$internal_tracestate";
location /less {
    trace_trusted internal unix:;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
location /less/sampled {
    trace internal $internal_parent_sampled;
    trace_trusted internal unix:;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
location /less/off {
    trace internal off;
    trace_trusted internal unix:;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
location /less/extract {
    trace_context internal extract;
    trace_trusted internal unix:;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
location /off {
    trace internal off;
    error_page 418 = /less;
    return 418;
}
location /rewritten {
    set $early $internal_trace_id;
    rewrite ^ /less last;
}
--- prefix: x-op-
--- exchanges eval
my @send = ("x-op-$::VALID", 'x-op-tracestate: a=1');

[(map { { uri => $_, send => \@send } } qw(/less /off /rewritten)),
 (map { { uri => $_, send => \@send, left => [], spans => 0 } }
     qw(/less/off /less/sampled)),
 { uri => '/less/extract', send => \@send, left => [] }]



=== TEST 10: what is no header value splits no request of the exporter
--- http_config
trace_exporter internal { endpoint $TEST_NGINX_OTLP; interval 10ms; }
trace_exporter user {
    endpoint $TEST_NGINX_RAW;
    routing_header x-tenant;
    interval 10ms;
}
--- config
client_body_in_single_buffer on;
location ~ ^/uri/(?<text>(?s:.*))$ {
    trace internal on;
    trace user on;
    trace_context internal propagate header=x-op-traceparent;
    trace_routing $text;
    trace_attribute both text $text;
    trace_span_name $text;
    return 204;
}
location /body {
    trace internal on;
    trace user on;
    trace_context internal propagate header=x-op-traceparent;
    trace_routing $request_body;
    trace_attribute both text $request_body;
    trace_span_name $request_body;
    trace_upstream off;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
location /status { trace_status; }
--- client eval
sub {
    my @bad = map { my $bytes = $_; map { sprintf $_, $bytes }
        '%sacme', 'ac%sme', 'acme%s' }
        "\r", "\n", "\0", "\r\nx-evil: 1", "\r\n\r\nPOST / HTTP/1.1\r\n"
        . "Host: evil\r\nContent-Length: 0\r\n\r\n", "\r\nx-tenant: globex",
        "\nContent-Length: 0";

    for (map { ($_, 'acme') } @bad) {
        my $escaped = s/([^a-z])/sprintf '%%%02x', ord $1/ger;

        main::talk(main::raw('POST /body HTTP/1.1', 'Host: localhost',
            'Connection: close', 'Content-Length: ' . length) . $_);
        push @::texts, tr/\0/\x1a/r;         # what the receiver shows of NUL
        next if /\0/;
        main::talk(main::request("/uri/$escaped"));
        push @::texts, $_;
    }

    my $dropped = grep { $_ ne 'acme' } @::texts;

    my $expected = 2 * @bad;
    $::raw->wait_spans($expected);
    main::is(CORE::join(' ', $::raw->torn), '', 'requests are whole');
    main::is($::raw->spans, $expected, 'spans of acme');

    my %heads = map { $_ => 1 } split /\0/, main::file_of('raw.heads');
    main::is(scalar keys %heads, 1, 'one head');
    main::like((keys %heads)[0], qr{\APOST /v1/traces HTTP/1.1\r
Host: localhost\r
Content-Type: application/x-protobuf\r
User-Agent: OTel-OTLP-Exporter-C/[\d.]+\r
x-tenant: acme\r
Content-Length: N\z}, 'and which');

    main::like(main::get('/status'), qr/dropped_total\{pipeline="user",
        reason="no_routing"\}\ $dropped\n/x, 'dropped');
}
--- span_count: 81
--- check_spans eval
sub {
    is_deeply([map { $_->{attributes}{text} } @_], \@::texts, 'attributes');
    is_deeply([map { $_->{name} } @_], \@::texts, 'names');
}



=== TEST 11: bytes that are not UTF-8, from wherever, are not in any span
--- config
trace internal on;
trace user on;
trace_context internal propagate header=x-op-traceparent;
trace_routing acme;
trace_default_attributes user all;
location ~ ^/(?<captured>.*)$ {
    trace_span_name $arg_a;
    trace_attribute both x.header $http_x_header;
    trace_attribute both http.request.header.x-header $http_x_header;
    trace_attribute both x.cookie $cookie_c;
    trace_attribute both x.arg $arg_a;
    trace_attribute both x.captured $captured;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
--- client eval
sub {
    # overlong, surrogates and a pair of them, cut off, alone, too large, never
    for my $bytes ("\xc0\x80", "\xc1\xbf", "\xe0\x80\xaf", "\xf0\x80\x80\xaf",
        "\xed\xa0\x80", "\xed\xa0\x80\xed\xb0\x80", "\xc3", "\xe2\x82",
        "\xef\xbf", "\xf0\x9f\x98", "\x80", "\xbf\xbf", "\xf4\x90\x80\x80",
        "\xf5\x80\x80\x80", "\xf8\x88\x80\x80\x80", "\xfe", "\xff\xff")
    {
        for my $bad ($bytes, "<$bytes>", "\xc3\xa4$bytes") {
            like(talk(main::raw("GET /$bad?a=$bad HTTP/1.1",
                "Host: h$bad.example", "Cookie: c=$bad", "User-Agent: $bad",
                "X-Header: $bad", "tracestate: a=$bad", $::VALID,
                'Connection: close')), qr{ 200 }, 'served');
            like(talk(main::raw("G${bad}T /t HTTP/1.1", 'Host: localhost')),
                qr{ 400 }, 'refused');
        }
    }
}
--- span_count: 204
--- check_spans eval
sub {
    my @served = grep { $_->{attributes}{'http.response.status_code'} == 200 }
        @_;

    is(scalar @_, 204, 'spans');
    is(scalar @served, 102, 'spans of what was served');

    my $replaced = qr/[<\x{e4}]?\x{fffd}+>?/;
    my %attributes = ('url.path' => "/$replaced", 'url.query' => "a=$replaced",
        'user_agent.original' => $replaced, 'x.header' => $replaced,
        'x.cookie' => $replaced, 'x.arg' => $replaced,
        'x.captured' => $replaced, 'server.address' => "h$replaced\.example");

    for my $span (@served) {
        like($span->{name}, qr/\A$replaced\z/, 'name');
        is($span->{trace_state} // '', '', 'tracestate');
        like($span->{attributes}{$_}, qr/\A$attributes{$_}\z/, $_)
            for keys %attributes;
        like($span->{attributes}{'http.request.header.x-header'}[0],
            qr/\A$replaced\z/, 'header');
    }
}



=== TEST 12: several clients with one traceparent, and one that takes ours
--- config
location /t {
    trace internal on;
    trace user on;
    trace_context user propagate header=x-u-traceparent;
    trace_trusted user all;
    trace_routing $arg_n;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
--- client eval
sub {
    my $send = sub {
        my ($n, $parent_id) = @_;
        my $socket = connection();
        my $header = "traceparent: 00-$::T-$parent_id-01";

        syswrite $socket, main::request("/t?n=$n&delay=0.3", $header,
            "x-u-$header");
        return $socket;
    };

    main::upstream()->requests;

    my @sockets = map { $send->($_, $::P) } 0 .. 9;
    my @sent = main::upstream()->requests(10);

    # while the others are under way
    my ($ours) = map { /-(.{16})-01\z/ } main::trace_headers($sent[0]);
    push @sockets, map { $send->($_, $ours) } 10, 11;

    for (@sockets) {
        1 while sysread $_, my $answer, 4096;
    }

    push @sent, main::upstream()->requests(2);

    my @spans = spans_until(48);
    my %id = map { ($_->{span_id} => $_) } @spans;

    is(scalar keys %id, 48, 'each span has an id of its own');

    for my $span (grep { $_->{kind} eq 'SERVER' } @spans) {
        my ($n) = $span->{attributes}{'url.query'} =~ /\bn=(\d+)/;

        is("$span->{trace_id} $span->{parent_span_id}",
            "$::T " . ($n < 10 ? $::P : $ours), "the trace of request $n");
        is($span->{headers}{'x-tenant'} // $n, $n, 'and its tenant');
    }

    for my $sent (@sent) {
        my ($n) = $sent->{line} =~ /\bn=(\d+)/;

        for my $id (map { /-(.{16})-01\z/ } main::trace_headers($sent)) {
            my $request = $id{$id{$id}{parent_span_id}};

            like($request->{attributes}{'url.query'}, qr/\bn=$n\b/,
                "request $n has sent its own");
        }
    }
}



=== TEST 13: who asks for every trace gets what the operator gives
--- config
trace_upstream off;
location /parent { trace internal parent rate=5r/s; return 204; }
location /ratio { trace internal ratio=0.001 rate=5r/s; return 204; }
location /variable { trace internal $http_x_debug rate=5r/s; return 204; }
--- client eval
sub {
    my $start = Time::HiRes::time();
    my $n = 0;

    # with ids, and numbers in tracestate, that any ratio takes
    do {
        my @headers = (sprintf('traceparent: 00-%018x%s-%s-03', ++$n,
            'f' x 14, $::P), 'tracestate: ot=th:0;rv:ffffffffffffff');

        get([@headers, 'x-debug: 1'],
            (map { ("/$_") x 5 } qw(parent ratio variable)));
        select undef, undef, undef, 0.02;
    } while ($n < 20 || Time::HiRes::time() < $start + 1.2);

    $::most = 2 + 5 * (Time::HiRes::time() - $start);
}
--- span_count: 15
--- check_spans eval
sub {
    my %n;

    $n{$_->{attributes}{'url.path'}}++ for @_;

    for (qw(/parent /ratio /variable)) {
        cmp_ok($n{$_} // 0, '<=', $::most, "$_, and no more");
        cmp_ok($n{$_} // 0, '>=', 5, "$_, and no less");
    }

    is(scalar(grep { ($_->{trace_state} // '') =~ /th:/ } @_), 0, 'thresholds');
}



=== TEST 14: a header that controls is seen everywhere but behind nginx
--- shows_internal: response export
--- http eval
$::HTTP . 'trace_control_header x-other X-Debug;' . $::WALL . $::QUIET
--- config
--- client eval
sub {
    my @sent = (main::forgeries('x-debug'))[0 .. 11];

    is(main::everywhere('control', 'wall', @sent),
        'header if log map set spans', 'where it is seen');

    # also if nothing has read it before it went
    @sent = map { main::request_of('/t', @$_) } @sent;
    my $place = main::places('late', 'quiet', 2 * @sent,
        { http => scalar @sent }, @sent);

    is(main::seen_in($place), 'log', 'where it is seen late');

    # and of a request that is refused
    @sent = main::malformed(map { @$_ } (main::forgeries('x-debug'))[0, 3]);
    $place = main::places('refused', 'wall', 2 * @sent,
        { http => scalar @sent }, @sent);

    is(main::seen_in($place), 'header if log map set spans', 'refused');
}
--- error_log
client intended to send too large body



=== TEST 15: a context from a variable is held to the same rules
--- config
trace internal on;
trace_context internal propagate header=x-op-traceparent from=$http_x_ctx;
trace_trusted internal all;
location /t { proxy_pass http://$TEST_NGINX_UPSTREAM; }
location /wall {
    trace_trusted internal unix:;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
location ~ ^/uri/(?<text>(?s:.*))$ {
    trace_context internal from=$text;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
large_client_header_buffers 8 64k;
--- prefix: x-op-
--- exchanges eval
my $good = "00-$::T-$::P-01";
my @other = ("x-op-traceparent: 00-$::MARK-$::P-01", 'x-op-tracestate: a=1');

[{ send => ["x-ctx: $good"], trace => [$::T, $::P] },
 { send => ["x-ctx: $good", @other], trace => [$::T, $::P] },
 { send => \@other },
 { uri => '/wall', send => ["x-ctx: $good", @other] },
 { uri => "/uri/$good", trace => [$::T, $::P] },
 (map { { uri => "/uri/$_" } } "$good%0d%0ax-evil:%201", "$good%0a", "%0d$good",
     "00-$::T%0d%0a$::P-01", '%0d%0a%0d%0a', '%ff' x 55),
 (map { { send => ["x-ctx: $_", @other] } }
     '', $good x 2, "$good,$good", uc $good, "00-$::T-" . 0 x 16 . '-01',
     "ff-$::T-$::P-01", "\xff" x 55, "\x01" x 55, "$good\x7f",
     '0' x 55, 'x' x 8192, "$good-" . 'x' x 8192, 'y' x 60000)]



=== TEST 16: and brings no lines of its own into a header
--- config
trace internal off;
trace_context internal propagate header=x-op-traceparent;
trace_trusted internal all;
location ~ ^/(?<text>(?s:.*))$ {
    trace_context internal from=$text;
    add_header x-context $internal_traceparent;
    proxy_set_header x-context $internal_traceparent;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
location /on { trace internal on; }
--- client eval
sub {
    for (map { ("00-$::T-$::P-01$_", "cc-$::T-$::P-01-$_") }
        '%0d%0ax-evil:%201', '%0ax-evil:%201', '%0d%0a%0d%0aevil')
    {
        main::upstream()->requests;
        unlike(get("/$_"), qr/^(?:x-)?evil/m, 'response');
        my ($request) = main::upstream()->requests(1);
        unlike("@$_", qr/^evil|^x-evil|\n/, 'request')
            for @{$request->{headers}};
    }
}



=== TEST 17: headers leave to the upstreams that are named, whoever chooses one
--- http
underscores_in_headers on;
upstream app { server $TEST_NGINX_UPSTREAM; }
upstream other { server $TEST_NGINX_UPSTREAM; }
upstream app_fastcgi { server unix:$TEST_NGINX_DIR/fastcgi.sock; }
upstream app_scgi { server unix:$TEST_NGINX_DIR/scgi.sock; }
upstream app_uwsgi { server unix:$TEST_NGINX_DIR/uwsgi.sock; }
upstream fastcgi { server unix:$TEST_NGINX_DIR/fastcgi.sock; }
upstream scgi { server unix:$TEST_NGINX_DIR/scgi.sock; }
upstream uwsgi { server unix:$TEST_NGINX_DIR/uwsgi.sock; }
--- config
trace internal on;
trace_context internal propagate header=x-op-traceparent
              to=app,app_fastcgi,app_scgi,app_uwsgi;
trace_trusted internal all;
fastcgi_param REQUEST_URI $request_uri;
scgi_param REQUEST_URI $request_uri;
uwsgi_param REQUEST_URI $request_uri;
location /t { proxy_pass http://app; }
location /other { proxy_pass http://other; }
location /address { proxy_pass http://$TEST_NGINX_UPSTREAM; }
location /chosen { proxy_pass http://$arg_upstream; }
location /fastcgi { fastcgi_pass $arg_upstream; }
location /scgi { scgi_pass $arg_upstream; }
location /uwsgi { uwsgi_pass $arg_upstream; }
location /off { trace internal off; proxy_pass http://other; }
location /untrusted {
    trace_trusted internal unix:;
    proxy_pass http://other;
}
location /tried {
    error_page 404 = /other;
    return 404;
}
--- prefix: x-op-
--- exchanges eval
my @send = ("X-Op-$::VALID", 'X-Op-Tracestate: a=1');
my @trace = (trace => [$::T, $::P], state => 'a=1');

[{ send => \@send, @trace },
 { send => \@send, @trace, uri => '/chosen?upstream=APP' },
 (map { { send => \@send, uri => $_, left => [], @trace } } '/other',
     '/address', '/tried', '/chosen?upstream=other',
     "/chosen?upstream=unix:$::DIR/http.sock:/t"),
 { send => \@send, uri => '/off', left => [], spans => 0 },
 { send => \@send, uri => '/untrusted', left => [] },
 (map { my $protocol = $_;
     my %e = (send => [@send, map { s/[^:]*/$& =~ tr{-}{_}r/er } @send],
         protocol => $protocol, @trace);

     ({ %e, uri => "/$protocol?upstream=app_$protocol" },
      { %e, uri => "/$protocol?upstream=APP_$protocol" },
      { %e, uri => "/$protocol?upstream=$protocol", left => [] },
      { %e, uri => "/$protocol?upstream=unix:$::DIR/$protocol.sock",
        left => [] }) }
     qw(fastcgi scgi uwsgi)),
 (map { { send => ["x_op-traceparent: 00-$::T-$::P-01"], uri => $_,
          left => [] } } '/other', '/address')]



=== TEST 18: what scripts have made of a request stays, whatever is forged
--- http eval: $::LIMITS . 'upstream app { server $TEST_NGINX_UPSTREAM; }'
--- config eval
<<'_EOC_' . $::SCRIPTS
trace internal on;
trace_context internal propagate header=x-op-traceparent;
trace_context user to=app;
_EOC_
--- client eval
sub {
    my $sent = "traceparent: 00-$::MARK-$::P-01";
    my $hostile = "authorization: hostile\n";
    my %expected = (
        who => "authorization: operator\n$sent\nuser-agent: operator\n"
            . "x-op-traceparent: 00-NEW-ID-03\n",
        user => $hostile . "traceparent: written\nuser-agent: hostile\n"
            . "x-op-traceparent: 00-NEW-ID-03\n",
        internal => "$hostile$sent\nuser-agent: hostile\n"
            . "x-op-traceparent: 00-$::T-ID-01\n",
    );

    connection();
    main::upstream()->requests;

    for my $path ($::SCRIPTS =~ m{location /(\S+)}g) {
        my ($what) = $path =~ m{/(.*)};

        is(main::scripted("/$path", 'Authorization: hostile', $sent,
            'User-Agent: hostile', @$_), $expected{$what},
            "$path " . substr "@$_", 0, 60)
            for [], main::forgeries(qw(x-op-traceparent x-op-tracestate));
        spans_until(18, 'SERVER');
    }
}



=== TEST 19: what one location has believed, the next one does not
--- config
trace internal on;
trace_context internal propagate header=x-op-traceparent;
location /t { proxy_pass http://$TEST_NGINX_UPSTREAM; }
location /t/off {
    trace internal off;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
location /early {
    trace_trusted internal all;
    set $early $internal_trace_id;
    rewrite ^/early(.*) /t$1 last;
}
location /error {
    trace_trusted internal all;
    set $early $internal_trace_id;
    error_page 418 = /t;
    return 418;
}
location /off {
    trace internal off;
    trace_trusted internal all;
    try_files /none /t;
}
location /off/off {
    trace internal off;
    trace_trusted internal all;
    try_files /none /t/off;
}
--- prefix: x-op-
--- exchanges eval
my @send = ("x-op-$::VALID", 'x-op-tracestate: a=1');

[(map { { uri => $_, send => \@send } } qw(/t /early /error /off)),
 (map { { uri => $_, send => \@send, left => [], spans => 0 } }
     qw(/t/off /early/off /off/off))]



=== TEST 20: requests with few headers, and with those that are forged alone
--- config
trace internal on;
trace_context internal propagate header=x-op-traceparent;
location /t { proxy_pass http://$TEST_NGINX_UPSTREAM; }
--- prefix: x-op-
--- exchanges eval
my @ours = ("X-Op-$::VALID", 'X-Op-Tracestate: a=1');
my $of = sub { { bytes => main::raw('GET /t HTTP/1.0', @_) } };

[{ bytes => "GET /t\r\n" }, $of->(), $of->($ours[0]), $of->(@ours),
 $of->(@ours, 'X-A: 1'), $of->('X-A: 1', @ours),
 $of->($ours[0], 'X-A: 1', $ours[1]),
 $of->('X-A: 1', @ours, 'X-B: 1', @ours)]



=== TEST 21: no tracestate of the client's stands beside our traceparent
--- http
underscores_in_headers on;
--- config
trace internal on;
trace_context internal propagate header=x-b-traceparent;
trace_trusted internal all;
fastcgi_param REQUEST_URI $request_uri;
location /t { proxy_pass http://$TEST_NGINX_UPSTREAM; }
location /fastcgi { fastcgi_pass unix:$TEST_NGINX_DIR/fastcgi.sock; }
location /a {
    trace_context internal propagate header=x-a-traceparent;
    try_files /none /t;
}
--- prefix: x-b-
--- exchanges eval
my @believed = (send => ["X-B-$::VALID", 'X-B_Tracestate: forged=1'],
    trace => [$::T, $::P]);

[{ uri => '/a', send => ['X-B-Tracestate: forged=1'] },
 { uri => '/t', @believed },
 { uri => '/fastcgi', protocol => 'fastcgi', @believed }]



=== TEST 22: a header that has gone can be read by its name all the same
--- config
ssi on;
trace internal on;
trace_context internal propagate header=x-op-traceparent;
trace_control_header X-Debug;
location /t { proxy_pass http://$TEST_NGINX_UPSTREAM; }
--- client eval
sub {
    main::upstream()->requests;
    like(get(["x-debug: $::MARK"],
        '/t?body=<!--%23echo%20var="http_x_debug"-->'), qr/$::MARK/, 'read');
    unlike(JSON::PP::encode_json((main::upstream()->requests(1))[0]),
        qr/$::MARK/, 'gone');
}
--- span_count: 1
--- check_spans eval: sub { is(scalar @_, 1, 'spans') }



=== TEST 23: where nothing is traced, the same headers go no further
--- config
--- client eval
sub {
    for (['trace_context internal header=x-op-traceparent;',
          'x-op-traceparent'],
         ['trace_context user to=app;', 'traceparent'],
         ['trace_control_header x-debug;', 'x-debug'])
    {
        my ($directive, $name) = @$_;
        my $nginx = Nginx->new(
            main => 'user root;',
            http => "upstream app { server $ENV{TEST_NGINX_UPSTREAM}; }",
            server => "trace internal off; $directive
                location / { proxy_pass http://$ENV{TEST_NGINX_UPSTREAM}; }",
        )->start;

        main::upstream()->requests;
        $nginx->get('/t', "$name: $::MARK", "x-plain: $::MARK");
        is_deeply([map { lc $_->[0] } grep { $_->[1] eq $::MARK }
            map { @{$_->{headers}} } main::upstream()->requests(1)],
            ['x-plain'], $directive);
    }
}



=== TEST 24: nor does the location of a subrequest, of a header of its own
--- config
trace_context internal propagate header=x-op-traceparent;
location /on { trace internal on; return 204; }
location /a {
    auth_request /sr;
    try_files /none @ok;
}
location @ok { return 200 ok; }
location = /sr {
    internal;
    trace_context internal propagate header=x-sr-traceparent;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
--- prefix: x-sr-
--- exchanges eval
[{ uri => '/a', send => ["x-sr-$::VALID", 'X-SR-tracestate: a=1'],
   left => [], spans => 0 }]



=== TEST 25: nor what the location of its request believes
--- config
trace_context internal propagate header=x-op-traceparent;
location /on { trace internal on; return 204; }
location /b {
    trace_trusted internal all;
    set $early $internal_trace_id;
    auth_request /sr;
    try_files /none @ok;
}
location @ok { return 200 ok; }
location = /sr {
    internal;
    proxy_pass http://$TEST_NGINX_UPSTREAM;
}
--- prefix: x-op-
--- exchanges eval
[{ uri => '/b', send => ["x-op-$::VALID"], left => [], spans => 0 }]

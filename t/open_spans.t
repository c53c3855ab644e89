# trace_status lists the internal spans that are open, of all workers: with what
# their requests have sent, how far these are, and nothing of a user's. However
# a request ends, it is in the list no more.

use strict;
use warnings;

use JSON::PP;
use POSIX qw(strftime);
use Test::More;

use H2;
use Held;
use Promtool;
use Spans;

# one request, as |$bytes|, whose connection is returned

sub raw {
    my ($nginx, $bytes) = @_;
    my $socket = $nginx->connect or die "connect: $!";

    syswrite $socket, $bytes;
    return $socket;
}

# all that comes on |$socket|

sub answer {
    my $socket = shift;
    local $/;

    return <$socket> // '';
}

# head and body of a location with trace_status

sub page {
    my ($nginx, $path, $method) = @_;

    return split /\r\n\r\n/, answer(raw($nginx, ($method // 'GET')
        . " $path HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")), 2;
}

# the list, once |$check| likes the only span in it

sub only {
    my ($nginx, $check) = @_;
    my $span;

    $nginx->wait_for(sub {
        my ($open) = open_spans($nginx);
        ($span) = @$open;
        return @$open == 1 && $check->($span);
    });

    return $span // {};
}

sub numbers { [sort { $a <=> $b } map { number_of($_) } @_] }

sub phase { my ($phase) = @_; sub { $_[0]{phase} eq $phase } }

sub none_open {
    my ($nginx, $name) = @_;

    is_deeply([until_open($nginx, 0)], [], $name);
}

# a server for HTTP/2

sub h2_server {
    my ($nginx_dir, $locations) = @_;

    return "server { listen unix:$nginx_dir/h2.sock http2;
        http2_max_concurrent_streams 10000; $locations }";
}

scene 'one that waits for its upstream', sub {
    my $dir = shift;
    my $spans = Spans->new("$dir/otlp.sock");
    my $nginx = held($dir, 'interval 20ms;', server =>
        'location /held { trace_upstream off; proxy_pass http://behind; }')
        ->start;

    upstream()->requests;
    my $before = time;
    my ($socket) = hold($nginx, ['/held?delay=2&tenant=acme', context(7),
        'Connection: close']);
    my $span = only($nginx, sub { 1 });
    my $after = time;
    my ($sent) = upstream()->requests(1);
    my ($header) = map { $_->[1] } grep { $_->[0] eq 'x-op-traceparent' }
        @{$sent->{headers}};

    is_deeply([sort keys %$span], [sort qw(trace_id span_id parent_span_id
        name start age phase worker sampled)], 'its fields');
    is("00-$span->{trace_id}-$span->{span_id}-01", $header,
        'its ids are those that the upstream has got');
    is($span->{trace_id}, trace_of(internal => 7), "the client's trace");
    is($span->{parent_span_id}, parent_of(internal => 7), 'so is the parent');
    is($span->{name}, 'GET /held', 'method and route');
    ok(scalar(grep { $_ == $span->{worker} } $nginx->workers), 'a worker');
    is($span->{sampled}, JSON::PP::true, 'sampled');
    like($span->{start}, qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/,
        'the form of its start');
    cmp_ok($span->{start}, 'ge', utc($before - 0.002), 'which is not before');
    cmp_ok($span->{start}, 'le', utc($after + 0.002), 'nor after');
    cmp_ok($span->{age}, '<=', $after - $before + 0.005, 'its age');

    sleep 0.5;
    my $then = time;
    my $older = only($nginx, sub { 1 });
    my $grown = $older->{age} - $span->{age};
    cmp_ok($grown, '>=', $then - $after - 0.005, 'grows');
    cmp_ok($grown, '<=', time - $before, 'as time goes by');
    delete $_->{age} for $span, $older;
    is_deeply($older, $span, 'nothing else does');

    like(answer($socket), qr{^HTTP/1\.1 200 }, 'it is answered');
    none_open($nginx, 'and open no more');

    my ($finished) = $spans->requests('internal', 1);
    is($finished->{$_}, $span->{$_}, "the finished span has the same $_")
        for qw(trace_id span_id parent_span_id name);
};

sub utc {
    my $time = shift;

    return strftime('%Y-%m-%dT%H:%M:%S', gmtime $time)
        . sprintf '.%03dZ', ($time - int $time) * 1000;
}

scene 'one whose trace begins here has no parent', sub {
    my $dir = shift;
    my $nginx = held($dir, '')->start;
    my ($socket) = hold($nginx, ['/held?delay=60']);
    my $span = only($nginx, phase('upstream'));

    ok(exists $span->{parent_span_id}, 'that is said');
    is($span->{parent_span_id}, undef, 'with null');
};

# how far a request is, and how it comes there

my @phases = (
    [access => 'limit_req', '/limited'],
    [access => 'auth_request', '/auth'],
    [content => 'the client does not send its body', '/body', "POST",
        "Content-Length: 9\r\n"],
    [content => 'a file, to a client that does not read', '/files/large'],
    [upstream => 'the upstream does not answer', '/held?delay=60'],
    [upstream => 'it pauses behind its header', '/held?pause=60'],
    [upstream => 'a second server is tried', '/second'],
    [upstream => 'upgraded', '/upgrade?upgrade=1', 'GET',
        "Connection: upgrade\r\nUpgrade: echo\r\n"],
    [upstream => 'after a redirect', '/held?redirect=/later'],
    [upstream => 'an error page', '/broken'],
    [response => 'a client that does not read', '/held?size=20000000'],
);

scene 'the phases', sub {
    my $dir = shift;

    open my $file, '>', "$dir/large" or die $!;
    truncate $file, 20_000_000;
    close $file;

    my $socket = upstream()->{socket};
    my $nginx = held($dir, '', http =>
        "limit_req_zone all zone=slow:64k rate=1r/m;
         upstream two { server unix:$dir/nobody.sock; server unix:$socket; }",
        server => "location /limited { limit_req zone=slow burst=9;
                                       proxy_pass http://behind; }
                   location /auth { auth_request /slow;
                       proxy_pass http://behind; }
                   location = /slow { internal;
                       proxy_pass http://behind/slow?delay=60; }
                   location /later {
                       proxy_pass http://behind/later?delay=60; }
                   location /body { proxy_pass http://behind; }
                   location /files/ { alias $dir/; }
                   location /second { proxy_pass http://two/?delay=60; }
                   location /upgrade { proxy_pass http://behind;
                       proxy_set_header Connection upgrade;
                       proxy_set_header Upgrade echo; }
                   location /broken { error_page 502 = \@other;
                       proxy_pass http://unix:$dir/nobody.sock; }
                   location \@other {
                       rewrite ^ /x?delay=60 break;
                       proxy_pass http://behind; }")->start;

    # the first one has no delay
    answer(raw($nginx, "GET /limited HTTP/1.0\r\n\r\n"));

    for (@phases) {
        my ($phase, $name, $path, $method, $lines) = @$_;
        my $socket = raw($nginx, ($method // 'GET')
            . " $path HTTP/1.1\r\nHost: a\r\n" . ($lines // '') . "\r\n");
        my $span = only($nginx, phase($phase));

        is($span->{phase}, $phase, "$phase: $name");
        close $socket;
        none_open($nginx, 'the client leaves: open no more');
    }
};

# many streams of one connection, each held by limit_req

sub flood {
    my ($dir, $conf, @numbers) = @_;
    my $nginx = held($dir, $conf, main => 'worker_processes 1;');

    $nginx->{http} .= "limit_req_zone all zone=slow:64k rate=1r/m;"
        . h2_server($nginx->{dir}, "location / {
            limit_req zone=slow burst=100000; try_files /none =404; }");
    $nginx->start;

    my $socket = h2_connection("$nginx->{dir}/h2.sock");
    $nginx->wait_for(sub { (open_spans($nginx))[1] == 0 });
    streams($socket, @numbers);

    return ($nginx, $socket);
}

sub streams {
    my ($socket, @numbers) = @_;

    print $socket map { h2_get(2 * $_ - 1, '/', map { split /: /, $_, 2 }
        context($_)) } @numbers;
    $socket->flush;
}

scene 'the oldest 1000 are listed, and all are counted', sub {
    my $dir = shift;

    # the first one is not delayed
    my ($nginx, $socket) = flood($dir, '', 1 .. 1001);
    until_open($nginx, 1000);
    streams($socket, 1002 .. 1101);
    my @open = until_open($nginx, 1100);
    is((open_spans($nginx))[1], 1100, '1100 are open');
    is_deeply(numbers(@open), [2 .. 1001], 'the oldest are listed');

    my @starts = map { $_->{start} } @open;
    is_deeply(\@starts, [sort @starts], 'by their start');

    syswrite $socket, join '', map { h2_reset(2 * $_ - 1) } 2 .. 501;
    is_deeply(numbers(until_open($nginx, 600)), [502 .. 1101],
        'those that were reset are gone');

    close $socket;
    none_open($nginx, 'and so are all when the connection is');
};

scene 'more than there are places for', sub {
    my $dir = shift;
    my $spans = Spans->new("$dir/otlp.sock");
    my ($nginx, $socket) = flood($dir, 'interval 20ms; queue 64m;', 1 .. 8301);

    is(scalar(my @open = until_open($nginx, 8192)), 1000, 'a list');
    sleep 0.1;
    is((open_spans($nginx))[1], 8192, 'each place is used');

    close $socket;
    none_open($nginx, 'and free again');
    is(scalar(my @finished = $spans->requests('internal', 8301)), 8301,
        'those without a place have a span all the same');
    is(scalar(grep { ($_->{attributes}{'error.type'} // '') eq 'worker_exit' }
        @finished), 0, 'none is taken for dead');

    my ($last) = hold($nginx, ['/held?delay=60', context(9000)]);
    is(number_of(only($nginx, phase('upstream'))), 9000, 'the next is listed');
};

my $tenant = 'TENANT-THAT-IS-NO-ONES-BUSINESS';

scene 'nothing of a user is shown', sub {
    my $dir = shift;
    my $nginx = held($dir, '', http => 'trace_span_name user USERS-NAME;
        trace_attribute user USERS-ATTRIBUTE USERS-VALUE;', server => '
        location /user { trace internal off; proxy_pass http://behind; }
        location /metrics { trace internal off; trace user off; trace_status; }
        location /chrome { trace internal off; trace user off;
            trace_status format=chrome; }')->start;

    upstream()->requests;
    my @sockets = hold($nginx,
        map { ["/held?delay=60&tenant=$tenant", context($_)],
              ["/user?delay=60&tenant=$tenant", context(100 + $_)] } 1 .. 5);
    my @open = until_open($nginx, 5);
    is_deeply(numbers(@open), [1 .. 5], 'the internal ones');

    my @ids = map { $_->[1] =~ /^00-(\w+)-(\w+)-/ }
        grep { $_->[0] eq 'traceparent' } map { @{$_->{headers}} }
        upstream()->requests(10);
    is(scalar @ids, 20, 'ids of users');

    my @secret = (@ids, $tenant, 'USERS-NAME', 'USERS-ATTRIBUTE',
        'USERS-VALUE', map { parent_of(user => $_) } 1 .. 5, 101 .. 105);

    for my $path (qw(/status /metrics /chrome)) {
        my (undef, $body) = page($nginx, $path);

        is_deeply([grep { $body =~ /\Q$_/i } @secret], [], "not in $path");
    }

    my $status = status($nginx, 'user');
    is_deeply([grep { /open/ } keys %$status], [], 'not even how many');
    like((page($nginx, '/metrics'))[1],
        qr/^nginx_trace_open_spans\{pipeline="internal"\} 5$/m, 'the gauge');
    unlike((page($nginx, '/metrics'))[1],
        qr/^nginx_trace_open_spans\{pipeline="user"\}/m, 'of one pipeline');
    Promtool::check('metrics', (page($nginx, '/metrics'))[1],
        'promtool has nothing to mend');
};

scene 'those that trace_keep may keep are listed; others that are not recorded '
    . 'are not', sub
{
    my $dir = shift;
    my $nginx = held($dir, '', server => '
        location /keep { trace internal ratio=0; trace_keep $arg_keep;
            proxy_pass http://behind; }
        location /not { trace internal ratio=0; proxy_pass http://behind; }
        location /off { trace internal off; proxy_pass http://behind; }')
        ->start;
    my @sockets = hold($nginx, map { ["/$_?keep=1&delay=60"] }
        qw(not off keep));
    my $span = only($nginx, phase('upstream'));

    is($span->{name}, 'GET /keep', 'which it is');
    is($span->{sampled}, JSON::PP::false, 'it is not sampled');
    upstream()->requests(3);
    is((open_spans($nginx))[1], 1, 'still the only one');
};

# what a name in the configuration looks like, and how it is asked for; each
# location is a prefix

my @names = (
    ['quotes', '/q"\\\\\'x', '/q%22%5c%27x', 'GET /q"\\\'x'],
    ['what closes a script', '/</script>', '/%3c/script%3e', 'GET /</script>'],
    ['control characters', "/c\x01\x1b\t\n\x7fx", '/c%01%1b%09%0a%7fx',
        "GET /c\x01\x1b\t\n\x7fx"],
    ['UTF-8', "/\xc3\xa9\xf0\x9f\x99\x82", '/%c3%a9%f0%9f%99%82',
        "GET /\xe9\x{1f642}"],
    ['no UTF-8', "/\xff\xc3\xc3(\xed\xa0\x80\xc0\xaf",
        '/%ff%c3%c3(%ed%a0%80%c0%af', qr{^GET /.+\(.+\z}],
    ['as long as it may be', '/' . 'x' x 59, '/' . 'x' x 59,
        'GET /' . 'x' x 59],
    ['longer', '/' . 'y' x 100, '/' . 'y' x 100, 'GET /' . 'y' x 59],
    ['longer, and cut within a character', '/z' . "\xc3\xa9" x 40,
        '/z' . '%c3%a9' x 40, qr/^GET \/z\xe9{29}[^\xe9]?\z/],
);

scene 'names of any bytes', sub {
    my $dir = shift;
    my $nginx = held($dir, '', server => join('', map {
            my $location = $_->[1] =~ s/"/\\"/gr;
            qq{location "$location" { proxy_pass http://behind; }\n};
        } @names) . 'location /chrome { trace internal off; trace user off;
            trace_status format=chrome; }')->start;

    for (@names) {
        my ($name, undef, $path, $expected) = @$_;
        my ($socket) = hold($nginx, ["$path?delay=60"]);

        only($nginx, phase('upstream'));

        for my $page (qw(/status /chrome)) {
            my (undef, $body) = page($nginx, $page);
            my $json = eval { decode_json($body) };

            ok($json, "$name: $page is valid") or diag $body, $@;
            unlike($body, qr/[\x00-\x09\x0b-\x1f]/, 'no control characters');

            my ($is) = map { $_->{name} } $page eq '/status'
                ? @{$json->{internal}{open_spans}}
                : grep { $_->{ph} eq 'X' } @{$json->{traceEvents}};

            ref $expected ? like($is, $expected, 'the name')
                : is($is, $expected, 'the name');
        }

        close $socket;
        none_open($nginx, 'gone');
    }

    my ($socket) = raw($nginx, "NOSUCH /held?delay=60 HTTP/1.1\r\n"
        . "Host: a\r\n\r\n");
    is(only($nginx, phase('upstream'))->{name}, 'HTTP /',
        'a method that nobody knows');
};

my $chrome = 'location /chrome { trace internal off; trace user off;
    trace_status format=chrome; }';

scene 'for chrome://tracing', sub {
    my $dir = shift;
    my $nginx = held($dir, '', main => 'worker_processes 1;',
        server => "$chrome location /keep { trace internal ratio=0;
            trace_keep \$arg_keep; proxy_pass http://behind; }")->start;

    is_deeply(decode_json((page($nginx, '/chrome'))[1])->{traceEvents}, [],
        'nothing is open');

    my $before = time;
    my @sockets = hold($nginx, ['/held?delay=60', context(1)],
        ['/keep?keep=1&delay=60']);
    my @open = until_open($nginx, 2);
    upstream()->requests(2);

    my ($head, $body) = page($nginx, '/chrome');
    my $after = time;
    my $trace = decode_json($body);

    like($head, qr{^Content-Type: application/json\r?$}m, 'content type');
    like($head, qr{^Content-Length: @{[length $body]}\r?$}m, 'length');
    is_deeply([sort keys %$trace], ['displayTimeUnit', 'traceEvents'],
        'its fields');
    is($trace->{displayTimeUnit}, 'ms', 'unit');

    my ($meta, @more) = grep { $_->{ph} eq 'M' } @{$trace->{traceEvents}};
    my @events = grep { $_->{ph} ne 'M' } @{$trace->{traceEvents}};
    my ($worker) = $nginx->workers;

    is_deeply([@more], [], 'one worker');
    is_deeply($meta, { name => 'process_name', ph => 'M', pid => $worker,
        tid => 0, args => { name => 'nginx worker' } }, 'its name');
    is(scalar @events, 2, 'events');
    isnt($events[0]{tid}, $events[1]{tid}, 'each has a line of its own');

    for my $i (0, 1) {
        my ($event, $open) = ($events[$i], $open[$i]);
        my $end = ($event->{ts} + $event->{dur}) / 1e6;
        my %args = map { $_ => $open->{$_} }
            qw(trace_id span_id parent_span_id sampled);

        is_deeply([sort keys %$event], [sort qw(name cat ph ts dur pid tid
            args)], "$open->{name}: its fields");
        is_deeply([@$event{qw(name cat ph pid)}],
            [$open->{name}, 'internal', 'X', $worker], 'what it says');
        is_deeply($event->{args}, { %args, phase => 'upstream' }, 'arguments');
        cmp_ok($event->{ts} / 1e6, '>=', $before - 0.002, 'starts then');
        cmp_ok($end, '>=', $before, 'lasts');
        cmp_ok($end, '<=', $after + 0.005, 'until now');
    }

    my @times = $body =~ /"(?:ts|dur)":\s*([^,}\s]*)/g;
    is(scalar @times, 4, 'times');
    like($_, qr/^\d+\.\d{3}$/, 'of three decimals') for @times;
};

scene 'without an internal exporter', sub {
    my $dir = shift;
    my $nginx = Nginx->new(http => exporter($dir, 'routing_header x-tenant;',
        'user') . 'trace user on; trace_routing acme;', server => "$chrome
        location /status { trace_status format=json; }
        location / { limit_req zone=slow burst=9; return 204; }");

    $nginx->{http} .= 'limit_req_zone all zone=slow:64k rate=1r/m;';
    $nginx->start;
    answer(raw($nginx, "GET / HTTP/1.0\r\n\r\n"));
    my @sockets = hold($nginx, ['/'], ['/']);

    is_deeply(decode_json((page($nginx, '/chrome'))[1]),
        { displayTimeUnit => 'ms', traceEvents => [] }, 'an empty list');
    my (undef, $body) = page($nginx, '/status');
    is_deeply([keys %{decode_json($body)}], ['user'], 'users alone');
    unlike($body, qr/open/, 'and none of them is said to be open');
};

scene 'the page itself, and HEAD', sub {
    my $dir = shift;
    my $nginx = held($dir, '', server =>
        'location /traced { trace_status format=json; }')->start;
    my ($head, $body) = page($nginx, '/traced');
    my $internal = decode_json($body)->{internal};

    is($internal->{open_spans_total}, 1, 'it is traced, so it is in the list');
    is($internal->{open_spans}[0]{name}, 'GET /traced', 'its name');
    is($internal->{open_spans}[0]{phase}, 'content', 'its phase');
    none_open($nginx, 'then it is gone');

    my @sockets = hold($nginx, map { ['/held?delay=60'] } 1 .. 50);
    until_open($nginx, 50);
    ($head, $body) = page($nginx, '/status');
    cmp_ok(length $body, '>', 8192, 'a long one');
    like($head, qr{^Content-Length: @{[length $body]}\r?$}m, 'its length');

    ($head, $body) = page($nginx, '/status', 'HEAD');
    like($head, qr{^HTTP/1\.1 200 .*^Content-Length: \d{5}\r?$}ms, 'HEAD');
    is($body, '', 'has no body');
};

# the lists that each of |@workers| answers with, by the worker

sub lists {
    my ($nginx, @workers) = @_;
    my %list;

    for (1 .. 2000) {
        my ($head, $body) = page($nginx, '/who');

        my ($worker) = $head =~ /^X-Worker: (\d+)/mi or die $head;
        $list{$worker} = join ' ', map { "$_->{worker}/$_->{span_id}" }
            @{decode_json($body)->{internal}{open_spans}};
        last if keys %list == @workers;
    }

    return \%list;
}

my $who = 'location /who { trace internal off; trace user off;
    add_header X-Worker $pid; trace_status format=json; }';

# holds requests until |$n| workers have some

sub spread {
    my ($nginx, $n) = @_;
    my (@sockets, @open, %worker);

    for (1 .. 100) {
        push @sockets, hold($nginx, (['/held?delay=60']) x 4);
        @open = until_open($nginx, scalar @sockets);
        last if @open < @sockets;
        %worker = map { $_->{worker} => 1 } @open;
        last if keys %worker == $n;
    }

    is(scalar keys %worker, $n, @open . " requests in $n workers");
    return (\@open, @sockets);
}

scene 'each worker lists those of all', sub {
    my $dir = shift;
    my $nginx = held($dir, '', server => $who)->start;
    my ($open, @sockets) = spread($nginx, 2);
    my $lists = lists($nginx, $nginx->workers);
    my $expected = join ' ', map { "$_->{worker}/$_->{span_id}" } @$open;

    is_deeply([sort keys %$lists], [sort $nginx->workers], 'both are asked');
    is($lists->{$_}, $expected, 'all') for $nginx->workers;

    @sockets = ();
    none_open($nginx, 'gone');
};

scene 'those of workers of before a reload are listed', sub {
    my $dir = shift;
    my $spans = Spans->new("$dir/otlp.sock");
    my $nginx = held($dir, '', server => $who,
        main => 'worker_processes 1;')->start;
    my ($worker) = $nginx->workers;
    my @old = hold($nginx, ['/held?delay=60', context(1)]);

    until_open($nginx, 1);
    $nginx->reload;

    # until the old one accepts no more
    my ($next) = grep { $_ != $worker } $nginx->workers;
    $nginx->wait_for(sub { $nginx->log =~ /$worker#.*gracefully shutting/ });

    my @new = hold($nginx, ['/held?delay=60', context(2)]);
    my @open = until_open($nginx, 2);

    is_deeply([map { number_of($_) . " $_->{worker}" } @open],
        ["1 $worker", "2 $next"], 'both');
    close $old[0];
    @open = until_open($nginx, 1);
    is_deeply([map { number_of($_) } @open], [2], 'the old one is gone');
    ok($nginx->wait_for(sub { $nginx->workers == 1 }), 'and its worker');
    is((open_spans($nginx))[1], 1, 'the new one is still there');
};

# each way in which a request may end: its name, what is sent, and after how
# long the client leaves, if it does

sub GET { "GET $_[0] HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" }

my @endings = (
    ['a response', GET('/static/204')],
    ['no such file', GET('/files/none')],
    ['a file', GET('/files/small')],
    ['an answer of the upstream', GET('/held')],
    ['many on one connection', "GET /held HTTP/1.1\r\nHost: a\r\n\r\n" x 20
        . GET('/held')],
    ['HEAD', "HEAD /held HTTP/1.0\r\n\r\n"],
    ['HTTP/0.9', "GET /static/204\r\n"],
    ['a redirect to the client', GET('/dir')],
    ['access is denied', GET('/denied')],
    ['auth_request says no', GET('/no')],
    ['auth_request fails', GET('/noauth')],
    ['limit_req refuses', GET('/refused')],
    ['a body that is too long', "POST /tiny HTTP/1.1\r\nHost: a\r\n"
        . "Content-Length: 9\r\nConnection: close\r\n\r\n123456789"],
    ['no Host', "GET /held HTTP/1.1\r\n\r\n"],
    ['no request', "garbage\r\n\r\n"],
    ['a return of the rewrites', GET('/return')],
    ['closed without a word', GET('/444')],
    ['internal', GET('/slow')],
    ['nobody listens', GET('/nobody')],
    ['an error page', GET('/page')],
    ['a named one', GET('/named')],
    ['X-Accel-Redirect', GET('/held?redirect=/static/204')],
    ['to a named one', GET('/held?redirect=@other')],
    ['rewrite last', GET('/rewrite')],
    ['try_files', GET('/try')],
    ['index', GET('/index/')],
    ['a cycle of redirects', GET('/cycle')],
    ['mirror', GET('/mirror')],
    ['SSI', GET('/ssi?body=%3c!--%23include+virtual="/held"--%3e')],
    ['post_action', GET('/post')],
    ['a cache', GET('/cache?age=9') x 1, ],
    ['that has it', GET('/cache?age=9')],
    ['a retry', GET('/second')],
    ['the upstream closes', GET('/held?try=close')],
    ['in its header', GET('/held?try=half')],
    ['in its body', GET('/held?try=cut')],
    ['the upstream resets', GET('/held?try=break')],
    ['garbage comes', GET('/held?try=garbage')],
    ['the upstream is silent', GET('/impatient?try=hang')],
    ['it stalls', GET('/impatient?try=stall')],
    ['the client does not read', GET('/unread?size=20000000'), 2],
    ['the client leaves at once', GET('/held?delay=60'), 0],
    ['a moment later', GET('/held?delay=60'), 0.2],
    ['nginx does not look', GET('/deaf?delay=0.3'), 0],
    ['in auth_request', GET('/auth'), 0.2],
    ['in limit_req', GET('/limited'), 0.2],
    ['in its body', "POST /held HTTP/1.1\r\nHost: a\r\n"
        . "Content-Length: 9\r\n\r\n1", 0.2],
    ['in its header', "GET /held HTTP/1.1\r\nHost", 0.2],
    ['in a response', GET('/held?size=20000000'), 0.2],
    ['in a file', GET('/files/large'), 0.2],
    ['an upgraded one', "GET /upgrade?upgrade=1 HTTP/1.1\r\nHost: a\r\n"
        . "Connection: upgrade\r\nUpgrade: echo\r\n\r\nhello", 0.2],
    ['not kept', GET('/unkept')],
    ['kept', GET('/kept?keep=1')],
    ['no user', GET('/static/204?tenant=')],
    ['off at the end', GET('/off')],
);

sub endings_server {
    my $dir = shift;

    return "location /static/204 { return 204; }
        location /files/ { alias $dir/files/; }
        location /dir/ { proxy_pass http://behind; }
        location /denied { deny all; }
        location /no { auth_request /forbidden; proxy_pass http://behind; }
        location = /forbidden { internal; return 403; }
        location /noauth { auth_request /nobody; proxy_pass http://behind; }
        location /auth { auth_request /slow; proxy_pass http://behind; }
        location = /slow { internal;
            proxy_pass http://behind/slow?delay=60; }
        location /refused { limit_req zone=slow; try_files /none =404; }
        location /limited { limit_req zone=slow burst=9;
            try_files /none =404; }
        location /tiny { client_max_body_size 3; proxy_pass http://behind; }
        location /return { return 418; }
        location /444 { auth_request /static/204; try_files /none =444; }
        location /nobody { proxy_pass http://unix:$dir/nobody.sock; }
        location /page { error_page 502 /held;
            proxy_pass http://unix:$dir/nobody.sock; }
        location /named { error_page 502 \@other;
            proxy_pass http://unix:$dir/nobody.sock; }
        location \@other { proxy_pass http://behind; }
        location /rewrite { rewrite ^ /held last; }
        location /try { root $dir; try_files /none /files/none \@other; }
        location /index/ { alias $dir/files/; index none small; }
        location /cycle { root $dir; try_files /none /cycle; }
        location /mirror { mirror /held?delay=0.2; proxy_pass http://behind; }
        location /ssi { ssi on; proxy_pass http://behind; }
        location /post { post_action /held?delay=0.2;
            proxy_pass http://behind; }
        location /cache { proxy_cache c; proxy_pass http://behind; }
        location /second { proxy_pass http://two; }
        location /impatient { proxy_read_timeout 200ms;
            proxy_pass http://behind; }
        location /unread { send_timeout 500ms; proxy_pass http://behind; }
        location /deaf { proxy_ignore_client_abort on;
            proxy_pass http://behind; }
        location /upgrade { proxy_pass http://behind;
            proxy_set_header Connection upgrade;
            proxy_set_header Upgrade echo; }
        location /unkept { trace internal ratio=0; trace_keep \$arg_keep;
            proxy_pass http://behind; }
        location /kept { trace internal ratio=0; trace_keep \$arg_keep;
            proxy_pass http://behind; }
        location /off { trace internal off; error_page 502 /held;
            proxy_pass http://unix:$dir/nobody.sock; }";
}

scene 'each end leaves nothing open', sub {
    my $dir = shift;
    my $spans = Spans->new("$dir/otlp.sock");
    my $socket = upstream()->{socket};

    mkdir "$dir/files" or die $!;
    for ([small => 5], [large => 20_000_000]) {
        open my $file, '>', "$dir/files/$_->[0]" or die $!;
        truncate $file, $_->[1];
    }

    my $nginx = held($dir, 'interval 20ms;',
        server => endings_server($dir), http => "
            limit_req_zone all zone=slow:64k rate=1r/m;
            upstream two { server unix:$dir/nobody.sock max_fails=0;
                           server unix:$socket; }
            proxy_cache_path $dir/cache keys_zone=c:1m;");

    $nginx->{http} .= h2_server($nginx->{dir},
        'location / { proxy_pass http://behind; }');
    $nginx->start;
    answer(raw($nginx, "GET /limited HTTP/1.0\r\n\r\n"));
    none_open($nginx, 'nothing is');

    for (@endings) {
        my ($name, $bytes, $leaves) = @$_;
        my $socket = raw($nginx, $bytes);

        defined $leaves ? sleep $leaves : answer($socket);
        close $socket;
        none_open($nginx, $name) or return;
    }

    for my $how ('reset', 'closed') {
        my $socket = h2_connection("$nginx->{dir}/h2.sock");
        my @streams = map { 2 * $_ - 1 } 1 .. 10;

        syswrite $socket, join '', map { h2_get($_, '/held?delay=60') }
            @streams;
        is(scalar(my @open = until_open($nginx, 10)), 10, 'ten streams');
        syswrite $socket, join '', map { h2_reset($_) } @streams
            if $how eq 'reset';
        close $socket if $how eq 'closed';
        none_open($nginx, "are $how");
    }

    clients($nginx, requests => 20_000, path => '/static/204?%d')->wait;
    none_open($nginx, '20,000 requests');

    my ($held) = hold($nginx, ['/held?delay=60']);
    is(only($nginx, phase('upstream'))->{phase}, 'upstream',
        'the next one is listed');
    balance($nginx, pipeline => 'user', no_routing =>
        status($nginx, 'user')->{spans_dropped}{no_routing});
};

# a span that finds no room must leave its place as well

scene 'a queue that is full', sub {
    my $dir = shift;
    my $nginx = held($dir, 'queue 256k; interval 20ms;', http =>
        'trace_span_name internal ' . 'x' x 2000 . ';',
        server => 'location /quick { return 204; }')->start;

    clients($nginx, requests => 1000, path => '/quick?%d')->wait;
    cmp_ok(status($nginx)->{spans_dropped}{queue_full}, '>', 100,
        'spans are dropped');
    none_open($nginx, 'but none stays open');
};

done_testing();

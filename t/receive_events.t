# Log records, span events above all, at the receiver: what it accepts, and
# what it prints of them.

use strict;
use warnings;

use Compress::Zlib ();
use List::Util ();
use Test::More;
use Time::HiRes qw(sleep time);

use ReceiveCommand;


my @logs = (':path' => '/v1/logs');

sub status_of_logs { status_of($_[0], @logs, @_[1 .. $#_]) }

# A span event as nginx sends it; |set| has more attributes.
sub event {
    my ($name, %of) = @_;

    my @set = @{ delete $of{set} // [] };

    return record(event => "span.$name", %of, more => attributes(6,
            'span.sequence'   => int_value($of{sequence} // 0),
            'span.pipeline'   => string_value('internal'),
            'span.request_id' => string_value($of{request} // 'a1' x 8),
            @set) . ($of{more} // ''));
}

sub opens {
    my ($id, $name, %of) = @_;

    return event('open', id => $id x 8, %of, set => [
        'span.name' => string_value($name),
        'span.kind' => string_value($of{kind} // 'SERVER'),
        $of{parent} ? ('span.parent_id' => string_value($of{parent} x 8)) : ()]);
}

sub renames {
    my ($id, $name) = @_;

    return event('update_name', id => $id x 8,
        set => ['span.name' => string_value($name)]);
}

sub returns {
    my ($id, $status, %of) = @_;

    return event('return', id => $id x 8, %of,
        set => ['http.response.status_code' => int_value($status)]);
}

sub closes {
    my ($id, %of) = @_;

    return event('close', id => $id x 8, %of, set => [
        'span.status' => string_value($of{status} // 'UNSET'),
        $of{error} ? ('error.type' => string_value($of{error})) : ()]);
}

sub loses {
    my ($n) = @_;

    return event('dropped', id => 'a1' x 8,
        set => ['span.dropped_count' => int_value($n)]);
}

# Sends records of |service|. What is printed of them is printed by then.
sub announce {
    my ($service, @records) = @_;

    is(status_of_logs(request_of($service, @records)), 200, 'is accepted');
}

# What was printed since the last time.
sub news {
    my ($server) = @_;

    my $out = substr out($server), $server->{seen} // 0;
    $server->{seen} += length $out;

    return $out;
}


subtest 'one line of JSON for each log record' => sub {
    my $server = start('--json', "unix:$socket");

    my ($status, $body, $head) = post(request(opens('a1',
            "caf\xc3\xa9\0", parent => '11', sequence => 7,
            more => number(7, 3))), @logs, 'X-Tenant' => 'acme');
    is($status, 200, 'is accepted');
    is(unpack('H*', $body), '0a00', 'with an empty partial_success');
    like($head, qr{^content-type: application/x-protobuf\r$}mi,
        'as protobuf');

    my $line = out($server);
    is_deeply([lines($server)], [{
        resource      => { 'service.name' => 'shop' },
        scope         => { name => 'test', version => '1.0' },
        headers       => { host => 'localhost', 'x-tenant' => 'acme' },
        event_name    => 'span.open',
        trace_id      => $trace_id,
        span_id       => 'a1' x 8,
        time          => '1700000000000000000',
        observed_time => '1700000000000000000',
        flags         => 1,
        severity      => 9,
        severity_text => '',
        body          => undef,
        attributes    => {
            'span.sequence' => 7, 'span.pipeline' => 'internal',
            'span.request_id' => 'a1' x 8, 'span.parent_id' => '11' x 8,
            'span.name' => "caf\x{e9}\x{1a}", 'span.kind' => 'SERVER',
        },
        dropped_attributes_count => 3,
        request                  => 1,
    }], 'has all fields') or diag $line;

    like($line, qr/\A\{"resource":\{.*\},"scope":\{.*\},"headers":\{.*\},(?#
        )"event_name":.*"trace_id":.*"span_id":.*"time":.*"observed_time":(?#
        ).*"flags":.*"severity":.*"severity_text":.*"body":.*"attributes":(?#
        ).*"dropped_attributes_count":.*"request":1\}\n\z/, 'in order');
    unlike($line, qr/[^\x20-\x7e\n]/, 'is ASCII');

    is(status_of_logs(request(
        record(trace => '', id => '', time => 0, more => bytes(3, 'ERROR')
              . bytes(5, string_value('it broke'))),
        record(more => bytes(5, bytes(6,
                    bytes(1, attribute('k', string_value('v')))))))),
        200, 'records that are not events of ours');
    is_deeply([map { [@$_{qw(event_name trace_id span_id time body
                severity_text request)}] } (lines($server))[1, 2]],
        [['', '', '', '0', 'it broke', 'ERROR', 2],
         ['', $trace_id, $span_id, '1700000000000000000', { k => 'v' }, '', 2]],
        'have their bodies');

    is(stop($server), 0, 'ends');
};


subtest 'spans and log records on one connection' => sub {
    my $server = start('--json', '--count', 2, "unix:$socket");
    my $client = connection();
    my $gzip   = Compress::Zlib::memGzip(request(event('close')));

    for ([message(request(event('open')), @logs), 'an event'],
        [message(request(span())), 'a span'],
        [chunked(7, $gzip, @logs, 'Content-Encoding' => 'gzip'),
            'events in chunks of gzip'],
        [message('', @logs), 'no events'],
        [message(request(event('open'), event('close')), @logs), 'two events'],
        [message(request(span(id => '22' x 8))), 'another span'])
    {
        send_all($client, $_->[0]);
        is((response($client))[0], 200, $_->[1]);
    }

    is(ended($server), 0, '--count is reached by spans alone');
    is_deeply([map { [$_->{event_name} // $_->{name}, $_->{request}] }
              lines($server)],
        [['span.open', 1], ['GET /', 2], ['span.close', 3], ['span.open', 5],
         ['span.close', 5], ['GET /', 6]],
        'each is a line of its kind, in order');
};


subtest 'log records that are refused' => sub {
    my $server = start('--json', "unix:$socket");
    my $record = request(record());

    is(status_of($record, ':path' => $_), 404, "path $_")
      for qw(/v1/log /v1/logs/ /logs /v1/metrics);
    like((post($record, ':path' => '/'))[1], qr{/v1/traces and /v1/logs},
        'the answer says which there are');
    is(status_of_logs($record, ':method' => 'GET'), 405, 'GET');
    is(status_of_logs($record, 'Content-Type' => 'application/json'), 415,
        'JSON');
    is(status_of_logs($record, 'Content-Encoding' => 'br'), 415, 'brotli');
    is(status_of_logs("\0" x (20 * 1024 * 1024 + 1)), 413, 'over 20 MiB');
    is(status_of_logs(Compress::Zlib::memGzip("\0" x (21 * 1024 * 1024)),
            'Content-Encoding' => 'gzip'), 413, 'over 20 MiB, unpacked');

    my $fat = attribute('a', string_value('x' x 9_000_000));
    is(status_of_logs(bytes(1, bytes(1, bytes(1, $fat))
              . bytes(2, bytes(2, '') x 100))),
        413, 'a large resource of very many records');

    my $deep = string_value('x');
    $deep = bytes(5, bytes(1, $deep)) for 1 .. 60;
    my %bad = (
        'trace_id of 15 bytes' => record(trace => 'ab' x 15),
        'trace_id of 17 bytes' => record(trace => 'ab' x 17),
        'trace_id of zeros'    => record(trace => '00' x 16),
        'span_id of 7 bytes'   => record(id => 'ab' x 7),
        'span_id of 9 bytes'   => record(id => 'ab' x 9),
        'span_id of zeros'     => record(id => '00' x 8),
        'event_name, no UTF-8' => record(event => "a\xff"),
        'a body, no UTF-8'     =>
          record(more => bytes(5, string_value("\xc0\xaf"))),
        'a key, no UTF-8'      => record(more =>
            attributes(6, "\x80" => int_value(1))),
        'a deep body'          => record(more => bytes(5, $deep)),
        'a record cut off'     => record(more => "\x62\x7f"),
        'a span in its place'  => span(),
    );
    is(status_of_logs(request($bad{$_})), 400, $_) for sort keys %bad;
    is(status_of_logs(bytes(1, bytes(2, "\x12\0" x (10 * 1024 * 1024 - 20)))),
        400, 'ten million empty records');
    cmp_ok(memory($server, 'VmHWM'), '<', 450 * 1024, 'memory is bounded');

    is(status_of(request(event('open'))), 400, 'a record in a span\'s place');
    is(out($server), '', 'nothing is printed');
    alive('all that');
    is(stop($server), 0, 'ends');
};


my $ms = 1_000_000;


subtest 'a request that is open' => sub {
    my $server = start('--header', 'X-Tenant', '--settle', 0.2,
        "unix:$socket");
    push @logs, 'X-Tenant' => 'acme';

    announce('edge', opens('a1', 'GET /chat'),
        opens('b1', 'GET', kind => 'CLIENT', parent => 'a1',
            time => $t0 + $ms));
    is(news($server), <<'EOF', 'is shown at once');
4bf92f35…4736  ▶ open    GET /chat  edge  (SERVER, internal)  [x-tenant: acme]
4bf92f35…4736  ▶ open       GET  edge  (CLIENT, internal)  [x-tenant: acme]
EOF

    announce('edge', returns('a1', 101, time => $t0 + 2.5 * $ms),
        renames('a1', 'GET /chat/{room}'),
        event('attributes', id => 'a1' x 8, set => [
            'app.room' => string_value('a b'), 'n' => int_value(3)]),
        loses(12), loses(1), returns('a1', 503, time => $t0 - 1));
    is(news($server), <<'EOF', 'and what becomes known of it');
4bf92f35…4736  ◀ return  GET /chat  101  after 2.50 ms  [x-tenant: acme]
4bf92f35…4736  = rename  GET /chat → GET /chat/{room}  [x-tenant: acme]
4bf92f35…4736  + set     GET /chat/{room}  room=a b  n=3  [x-tenant: acme]
4bf92f35…4736  ! 12 events lost  [x-tenant: acme]
4bf92f35…4736  ! 1 event lost  [x-tenant: acme]
4bf92f35…4736  ◀ return  GET /chat/{room}  503  [x-tenant: acme]
EOF

    announce('edge', closes('b1', status => 'ERROR', error => 'read_timeout',
            time => $t0 + 60_001 * $ms),
        closes('a1', error => 'client_closed', time => $t0 + 60_100 * $ms));
    is(news($server), <<'EOF', 'and its end');
4bf92f35…4736  ■ close      GET  ERROR  read_timeout  after 60.0 s  [x-tenant: acme]
4bf92f35…4736  ■ close   GET /chat/{room}  client_closed  after 60.1 s  [x-tenant: acme]
EOF

    sleep 0.4;
    is(news($server), '', 'nothing is drawn without finished spans');

    splice @logs, 2;
    is(status_of(request_of('edge',
                span(id => 'a1' x 8, start => $t0, ms => 60_100,
                    name => 'GET /chat/{room}'),
                span(id => 'b1' x 8, parent => 'a1' x 8, start => $t0 + $ms,
                    ms => 60_000, kind => 3, name => 'GET')),
            'X-Tenant' => 'acme'), 200, 'its spans are finished');
    ok(wait_for(sub { out($server) =~ /\n\n\z/ }), 'are drawn');
    is(news($server), <<"EOF", 'as always');
trace $trace_id  2 spans in 60.1 s  [x-tenant: acme]
└─ GET /chat/{room}  edge  SERVER          +0  60.1 s
   └─ GET            edge  CLIENT    +1.00 ms  60.0 s

EOF
    is(stop($server), 0, 'ends');
};


subtest 'events that come behind their span' => sub {
    my $server = start('--settle', 0.2, "unix:$socket");

    is(status_of(request_of('edge',
                span(id => 'a1' x 8, start => $t0, ms => 5, name => 'GET /'),
                span(id => 'b1' x 8, parent => 'a1' x 8, start => $t0 + $ms,
                    ms => 2, kind => 3, name => 'GET'))),
        200, 'spans come');
    announce('edge', opens('a1', 'GET /'));
    is(news($server), <<'EOF', 'and then that one is open');
4bf92f35…4736  ▶ open    GET /  edge  (SERVER, internal)
EOF
    ok(wait_for(sub { out($server) =~ /\n\n\z/ }), 'all is drawn');
    is(news($server), <<"EOF", 'each span once');
trace $trace_id  2 spans in 5.00 ms
└─ GET /   edge  SERVER          +0  5.00 ms
   └─ GET  edge  CLIENT    +1.00 ms  2.00 ms

EOF
    is(stop($server), 0, 'ends');
};


subtest 'in ASCII' => sub {
    local $ENV{LC_ALL} = 'C';
    my $server = start("unix:$socket");

    announce('edge', opens('a1', "caf\xc3\xa9"), renames('a1', 'b'),
        event('attributes', id => 'a1' x 8), returns('a1', 200),
        closes('a1'), loses(2), record(event => 'x'),
        record(trace => '', event => 'y'));
    is(news($server), <<'EOF', 'there are no other characters');
4bf92f35..4736  > open    caf\u00e9  edge  (SERVER, internal)
4bf92f35..4736  = rename  caf\u00e9 -> b
4bf92f35..4736  + set     b
4bf92f35..4736  < return  b  200  after 0 ns
4bf92f35..4736  # close   b  after 0 ns
4bf92f35..4736  ! 2 events lost
4bf92f35..4736  * log     x
                * log     y
EOF
    is(stop($server), 0, 'ends');
};


subtest 'two hops of one trace, one open longer than the other' => sub {
    my $server = start('--settle', 0.1, "unix:$socket");
    my $start  = int(time * 1000) * $ms - 2000 * $ms;

    announce('edge', opens('a1', 'GET /api', time => $start),
        opens('b1', 'GET', kind => 'CLIENT', parent => 'a1',
            time => $start + $ms),
        opens('b2', 'aside', kind => 'INTERNAL', parent => 'a1'));
    announce('app', opens('c1', 'GET /', parent => 'b1', request => 'c1' x 8));
    announce('third', opens('d1', 'GET /3', parent => 'c9', request => 'd1' x 8),
        opens('d2', 'task', parent => 'd9', request => 'd1' x 8));
    is(join("\n", out($server) =~ /open    ( *.*?)  \w+  \(/g), <<'EOF' =~ s/\n\z//r,
GET /api
   GET
   aside
      GET /
GET /3
   task
EOF
        'a span is below its parent, or else below its request');

    announce('app', closes('c1'), closes('b1', time => $start + 16 * $ms));
    news($server);
    post(request_of('app', span(id => 'c1' x 8, parent => 'b1' x 8,
                start => $start + 2 * $ms, name => 'GET /'),
            span(id => 'e1' x 8, parent => 'b1' x 8,
                start => $start + 3 * $ms, name => 'GET /more')));
    ok(wait_for(sub { out($server) =~ /\n\n\z/ }), 'the inner one is drawn');

    my $out = news($server);
    my @for = $out =~ /open for (\d\.\d\d) s/g;
    $out =~ s/\d\.\d\d s/TIME s/g;
    is($out, <<"EOF", 'below what was announced of the outer one');
trace $trace_id  4 spans in TIME s, 1 open
└─ GET /api         edge  SERVER          +0  open for TIME s
   └─ GET           edge  CLIENT    +1.00 ms          15.0 ms
      ├─ GET /      app   SERVER    +2.00 ms          12.3 ms
      └─ GET /more  app   SERVER    +3.00 ms          12.3 ms

EOF
    is(scalar(grep { $_ >= 1.99 && $_ < 9 } @for), 1, 'for that long');

    post(request_of('edge', span(id => 'a1' x 8, start => $start, ms => 2500,
                name => 'GET /api'),
            span(id => 'b1' x 8, parent => 'a1' x 8, start => $start + $ms,
                ms => 15, name => 'GET', kind => 3)));
    is(news($server), <<'EOF', 'a finished span closes its own');
4bf92f35…4736  ■ close   GET /api  after 2.50 s
EOF
    announce('edge', closes('b1'), closes('a1'));
    ok(wait_for(sub { out($server) =~ /\n\n\z/ }), 'the outer one is drawn');
    is(news($server), <<"EOF", 'and nothing of it is open any more');
trace $trace_id (continued)  2 spans in 2.50 s
└─ GET /api  edge  SERVER          +0   2.50 s
   └─ GET    edge  CLIENT    +1.00 ms  15.0 ms

EOF
    is(stop($server), 0, 'ends');
    is(news($server), '', 'what was never finished is not drawn');
};


subtest 'a worker that is gone' => sub {
    my $server = start('--settle', 60, "unix:$socket");

    announce('edge', opens('a1', 'GET /'), opens('b1', 'GET', parent => 'a1'));
    news($server);
    announce('edge', map { closes($_, status => 'ERROR', error => 'worker_exit',
                time => $t0 + 90 * $ms) } qw(b1 a1));
    is(news($server), <<'EOF', 'its spans are closed');
4bf92f35…4736  ■ close      GET  ERROR  worker_exit  after 90.0 ms
4bf92f35…4736  ■ close   GET /  ERROR  worker_exit  after 90.0 ms
EOF
    post(request(span(id => 'c1' x 8, parent => 'b1' x 8)));
    is(stop($server), 0, 'ends');
    is(news($server), <<"EOF", 'and none is taken for open');
trace $trace_id  3 spans in 90.0 ms
└─ GET /        edge  SERVER    +0  90.0 ms  ERROR
   └─ GET       edge  SERVER    +0  90.0 ms  ERROR
      └─ GET /  shop  SERVER    +0  12.3 ms

EOF
};


subtest 'a receiver that was started later, a batch that comes twice' => sub {
    my $server = start("unix:$socket");

    announce('edge', returns('a1', 200), renames('a1', 'b'), closes('a1'));
    is(news($server), <<'EOF', 'a span whose beginning nobody saw has its id');
4bf92f35…4736  ◀ return  span a1a1a1a1a1a1a1a1  200
4bf92f35…4736  = rename  span a1a1a1a1a1a1a1a1 → b
EOF

    announce('edge', opens('a1', 'GET /')) for 1, 2;
    is(() = news($server) =~ /open/g, 1, 'a span is opened once');
    announce('edge', opens('a1', 'GET /'), closes('a1')) for 1, 2;
    is(news($server), <<'EOF', 'and closed once');
4bf92f35…4736  ■ close   GET /  after 0 ns
EOF
    is(stop($server), 0, 'ends');
};


subtest 'other log records' => sub {
    my $server = start("unix:$socket");

    announce('edge', opens('a1', 'GET /'), opens('b1', 'w', parent => 'a1'));
    news($server);
    announce('shop', record(event => 'cart.updated', id => 'b1' x 8,
            more => attributes(6, 'app.items' => int_value(3))),
        record(id => '', more => bytes(5, string_value('no stock'))),
        record(trace => '', event => 'tick', more => bytes(5, int_value(7))),
        event('unheard_of', id => 'a1' x 8),
        event('open', id => ''), event('open', trace => ''));
    is(news($server), <<'EOF', 'are shown plainly');
4bf92f35…4736  • log        cart.updated  items=3
4bf92f35…4736  • log     no stock
               • log     tick  7
4bf92f35…4736  • log     span.unheard_of
4bf92f35…4736  • log     span.open
               • log     span.open
EOF
    is(stop($server), 0, 'ends');
};


subtest 'events made by an attacker' => sub {
    my $evil = "\e[2J\a\r\n\0\x7f\\\xc2\x9b31m\xe2\x80\xae\xe2\x80\xa8";
    my $text = string_value($evil);
    my $server = start('--header', 'x-e', '--color=never', "unix:$socket");

    post(request_of($evil,
        event('open', set => ['span.name' => $text, 'span.kind' => $text,
                'span.parent_id' => $text]),
        event('update_name', set => ['span.name' => $text]),
        event('attributes', set => [$evil => $text]),
        event('close', set => ['error.type' => $text]),
        event($evil, more => bytes(5, $text))), @logs, 'X-E' => "a\e[31m");

    my $out = news($server);
    unlike($out, qr/[\x00-\x09\x0b-\x1f\x7f]/, 'no control character');
    unlike($out, qr/\xc2[\x80-\x9f]|\xe2\x80[\xa8\xae]/,
        'nor one of those above ASCII');
    is(() = $out =~ /\n/g, 5, 'no line is broken');
    is(() = $out =~ /\\x1b\[2J\\x07\\x0d\\x0a\\x1a\\x7f\\\\\\u009b/g, 12,
        'they are escaped');
    is(() = $out =~ /\[x-e: a\\x1b\[31m\]/g, 5, 'in the header too');

    my $long = "\xc3\xa9" x 1000;
    announce($long, opens('a1', $long), renames('a1', "$long."),
        event('attributes', id => 'a1' x 8,
            set => [$long => string_value($long)]),
        closes('a1', error => $long));
    $out = news($server);
    is(() = $out =~ /(?<!\xa9)(?:\xc3\xa9){100}\.\.\./g, 8,
        'long ones are cut');
    unlike($out, qr/(?:\xc3\xa9){101}/, 'all of them');

    announce('edge', event('open', set => ['span.name' => int_value(1)],
            id => 'd1' x 8),
        event('return'), event('return',
            set => ['http.response.status_code' => string_value('200')]),
        event('dropped', set => ['span.dropped_count' => int_value(~0)]));
    is(() = news($server) =~ /\n/g, 4, 'values of other types do no harm');

    announce('edge', map { event('open', id => sprintf('%016x', $_),
                set => ['span.name' => string_value("s$_"),
                    'span.parent_id' =>
                      string_value(sprintf '%016x', $_ - 1)]) } 1 .. 500);
    cmp_ok(List::Util::max(map { length } split /\n/, news($server)), '<', 200,
        'a long chain is bounded in width');
    post(request(span(id => 'c1' x 8, parent => sprintf '%016x', 500)));
    is(stop($server), 0, 'ends');
    like(news($server), qr/ 33 spans in .*, 32 open$/m,
        'and so is what is drawn above a span');
};


subtest 'very many open spans' => sub {
    my $server = start('--settle', 60, "unix:$socket");
    my @of     = map { [id => sprintf('%016x', $_),
        trace => sprintf('%031x1', $_)] } 1 .. 100_000;

    for my $part (0 .. 9) {
        announce('s' x 300, map { opens('a1', 'n' x 300, @$_) }
              @of[$part * 10_000 .. $part * 10_000 + 9_999]);
    }
    cmp_ok(memory($server, 'VmRSS'), '<', 150 * 1024, 'memory is bounded');
    news($server);

    announce('edge', returns('a1', 200, @{ $of[0] }));
    like(news($server), qr/return +nnn/, '100,000 are kept');
    announce('edge', opens('a1', 'one more'));
    news($server);
    announce('edge', map { returns('a1', 200, @$_) } @of[0, 1]);
    like(news($server), qr/return  span 0{15}1  .*\n.*return +nnn/,
        'above that the oldest is forgotten');

    announce('edge', map { closes('a1', @$_) } @of);
    is(() = news($server) =~ /close/g, 99_999, 'and no other');

    announce('edge', opens('b1', 'two more'), opens('c1', 'three more'),
        returns('a1', 200), map { returns('a1', 200, @$_) } @of[1, 2, 3]);
    is(join(' ', news($server) =~ /return +(\w+ \w+|n)/g),
        'one more span 0000000000000002 span 0000000000000003 n',
        'what is closed is forgotten first');
    is(stop($server), 0, 'ends');
};


done_testing();

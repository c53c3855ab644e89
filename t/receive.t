# The receiver, over real sockets: what it accepts, what it refuses, what it
# prints, and that nothing sent to it makes it fail.

use strict;
use warnings;

use Compress::Zlib ();
use IO::Select;
use IO::Socket::INET;
use JSON::PP ();
use Test::More;
use Time::HiRes qw(sleep time);

use ReceiveCommand;


# What is in one of these must not matter to the next one: each ends with the
# receiver alive and answering.

subtest 'one line of JSON for each span' => sub {
    my $server = start('--json', "unix:$socket");
    is($server->{name}, "unix:$socket", 'says where it listens');

    my $list = bytes(5,
        join '', map { bytes(1, $_) } string_value('a'), int_value(2));
    my $map  = bytes(6, bytes(1, attribute('k', string_value('v'))));
    my $more = join '',
      bytes(3, 'ot=th:0'), fixed32(16, 0x301), number(10, 7),
      (map { bytes(9, attribute(@$_)) }
          ['string',   string_value("caf\xc3\xa9 \xf0\x9f\x98\x80")],
          ['nul',      string_value("a\0b")],
          ['true',     number(2, 1)],
          ['false',    number(2, 0)],
          ['int',      int_value(9007199254740993)],
          ['negative', int_value(18446744073709551615)],
          ['double',   varint(4 << 3 | 1) . pack('d<', 0.25)],
          ['nan',      varint(4 << 3 | 1) . pack('d<', 'NaN')],
          ['list',     $list],
          ['map',      $map],
          ['bytes',    bytes(7, "\0\xff\x10")],
          ['nothing',  '']),
      bytes(11, fixed64(1, 1_700_000_000_000_000_005) . bytes(2, 'retry')
          . bytes(3, attribute('n', int_value(1))) . number(4, 8)),
      number(12, 9),
      bytes(13, id(1, 'ab' x 16) . id(2, 'cd' x 8) . bytes(3, 'a=1')
          . bytes(4, attribute('l', string_value('x'))) . number(5, 10)
          . fixed32(6, 1)),
      number(14, 11),
      bytes(15, bytes(2, 'it broke') . number(3, 2));

    is(status_of(request(span(more => $more, parent => '11' x 8)),
            'X-Tenant' => 'acme', 'User-Agent' => 'test/1'),
        200, 'is accepted');

    my $line = out($server);
    my ($span) = lines($server);
    is_deeply($span, {
        resource       => { 'service.name' => 'shop' },
        scope          => { name => 'test', version => '1.0' },
        headers        => { host => 'localhost', 'user-agent' => 'test/1',
                            'x-tenant' => 'acme' },
        trace_id       => $trace_id,
        span_id        => $span_id,
        parent_span_id => '11' x 8,
        trace_state    => 'ot=th:0',
        flags          => 0x301,
        name           => 'GET /',
        kind           => 'SERVER',
        start_time_unix_nano     => '1700000000000000000',
        end_time_unix_nano       => '1700000000012300000',
        dropped_attributes_count => 7,
        attributes => {
            string => "caf\x{e9} \x{1f600}", nul => "a\x{1a}b",
            true => JSON::PP::true, false => JSON::PP::false,
            int => 9007199254740993, negative => -1, double => 0.25,
            nan => 'NaN', list => ['a', 2], map => { k => 'v' },
            bytes => 'AP8Q', nothing => undef,
        },
        events => [{ time_unix_nano => '1700000000000000005',
            name => 'retry', attributes => { n => 1 },
            dropped_attributes_count => 8 }],
        dropped_events_count => 9,
        links => [{ trace_id => 'ab' x 16, span_id => 'cd' x 8, flags => 1,
            trace_state => 'a=1', attributes => { l => 'x' },
            dropped_attributes_count => 10 }],
        dropped_links_count => 11,
        status  => { code => 'ERROR', message => 'it broke' },
        request => 1,
    }, 'has all fields') or diag $line;

    my $depth = 0;
    my @keys;
    while ($line =~ /([{\[])|([}\]])|"((?:[^"\\]|\\.)*)"(:?)/g) {
        $depth++ if $1;
        $depth-- if $2;
        push @keys, $3 if $4 && $depth == 1;
    }
    is("@keys", 'resource scope headers trace_id span_id parent_span_id'
          . ' trace_state flags name kind start_time_unix_nano'
          . ' end_time_unix_nano attributes dropped_attributes_count events'
          . ' dropped_events_count links dropped_links_count status request',
        'keys are in order');
    unlike($line, qr/[^\x20-\x7e\n]/, 'is ASCII');

    post(request(span(kind => 77, more => bytes(15, number(3, 1))),
            span(id => '22' x 8, kind => 3)));
    (undef, my @two) = lines($server);
    is_deeply([map { [@$_{qw(span_id kind request parent_span_id)},
            $_->{status}{code}] } @two],
        [[$span_id, '77', 2, '', 'OK'], ['22' x 8, 'CLIENT', 2, '', 'UNSET']],
        'spans of one request have its number');

    is(stop($server), 0, 'ends');
    ok(!-e $socket, 'removes its socket');
};


subtest 'headers that come twice, or are not UTF-8' => sub {
    my $server = start('--json', "unix:$socket");
    my $client = connection();

    my $body = request(span());
    my $head = head('Content-Length' => length $body);
    $head =~ s/\r\n\z/X-A: 1\r\nx-a: 2\r\nX-B: \xff\r\n\r\n/;
    send_all($client, $head . $body);
    is((response($client))[0], 200, 'are accepted');

    my ($span) = lines($server);
    is($span->{headers}{'x-a'}, '1, 2', 'are one list');
    is($span->{headers}{'x-b'}, "\x{fffd}", 'are mended');
    is(stop($server), 0, 'ends');
};


subtest 'answers as a collector does' => sub {
    my $server = start('--json', "unix:$socket");

    my ($status, $body, $head) = post(request(span()));
    is($status, 200, 'a span is accepted');
    is(unpack('H*', $body), '0a00', 'with an empty partial_success');
    like($head, qr{^content-type: application/x-protobuf\r$}mi,
        'as protobuf');

    is(status_of(''), 200, 'an empty request is one');

    ($status, $body, $head) = post('garbage');
    is($status, 400, 'garbage is refused');
    is(substr($body, 0, 2), chr(0x12) . chr(length($body) - 2),
        'with a google.rpc.Status');

    is(status_of(request(span()), ':path' => '/'), 404, 'path /');
    is(status_of(request(span()), ':path' => '/v1/traces/'), 404,
        'path with a slash too many');
    is(status_of(request(span()), ':path' => '/v1/metrics'), 404,
        'path of metrics');
    is(status_of(request(span()), ':path' => '/v1/traces?a=b'), 200,
        'path with a query');

    for my $method (qw(GET PUT DELETE OPTIONS)) {
        ($status, undef, $head) = post('', ':method' => $method);
        is($status, 405, $method);
        like($head, qr/^allow: POST\r$/mi, "$method: says what is allowed");
    }

    for ('application/json', 'text/plain', 'application/x-protobuffer', '',
        undef)
    {
        is(status_of(request(span()), 'Content-Type' => $_), 415,
            'content-type ' . ($_ // 'missing'));
    }

    for ('application/x-protobuf; charset=utf-8', 'Application/X-Protobuf',
        "application/x-protobuf \t;a=b")
    {
        is(status_of(request(span()), 'Content-Type' => $_), 200,
            "content-type $_");
    }

    for (qw(br zstd deflate), 'gzip, gzip') {
        is(status_of(request(span()), 'Content-Encoding' => $_), 415,
            "content-encoding $_");
    }

    is(status_of(request(span()), 'Content-Encoding' => 'identity'), 200,
        'content-encoding identity');
    is(stop($server), 0, 'ends');
    is(scalar(my @spans = lines($server)), 6, 'printed what it accepted');
    like(slurp($server->{err}), qr/refused a request: 400, \S/,
        'told of a refusal');
};


subtest 'what is not OTLP is refused' => sub {
    my $server = start('--json', "unix:$socket");

    my $deep = string_value('x');
    $deep = bytes(5, bytes(1, $deep)) for 1 .. 40;
    is(status_of(request(span(more => bytes(9, attribute('deep', $deep))))),
        200, 'nested 80 deep is accepted');

    my %bad = (
        'trace_id of 15 bytes'   => span(trace => 'ab' x 15),
        'trace_id of 17 bytes'   => span(trace => 'ab' x 17),
        'trace_id missing'       => span(trace => ''),
        'trace_id of zeros'      => span(trace => '00' x 16),
        'span_id of 7 bytes'     => span(id => 'ab' x 7),
        'span_id of 9 bytes'     => span(id => 'ab' x 9),
        'span_id of zeros'       => span(id => '00' x 8),
        'parent of 1 byte'       => span(parent => 'ab'),
        'link without trace_id'  => span(more => bytes(13, id(2, 'ab' x 8))),
        'link, span_id too long' =>
          span(more => bytes(13, id(1, 'ab' x 16) . id(2, 'ab' x 9))),
        'name, not UTF-8'        => span(name => "a\xff"),
        'name, overlong UTF-8'   => span(name => "\xc0\xaf"),
        'name, overlong 3'       => span(name => "\xe0\x9f\xbf"),
        'name, surrogate'        => span(name => "\xed\xa0\x80"),
        'name, above U+10FFFF'   => span(name => "\xf4\x90\x80\x80"),
        'name, cut off'          => span(name => "a\xc3"),
        'attribute, not UTF-8'   =>
          span(more => bytes(9, attribute('a', string_value("\x80")))),
        'key, not UTF-8'         =>
          span(more => bytes(9, attribute("\xe9", string_value('a')))),
        'wrong wire type'        => span(more => fixed32(5, 1)),
        'field number 0'         => span(more => "\0\0"),
        'group'                  => span(more => "\xa3\x06\xa4\x06"),
        'varint without end'     => span(more => "\xff" x 11),
        'length behind the end'  => span(more => "\x2a\x7f"),
        'length of 2^63'         => span(more => "\x2a" . "\xff" x 9 . "\1"),
    );

    $deep = bytes(5, bytes(1, $deep)) for 1 .. 40;
    $bad{'nested 160 deep'} = span(more => bytes(9, attribute('a', $deep)));

    for (sort keys %bad) {
        is(status_of(request($bad{$_})), 400, $_);
    }

    # As deep as 16 MiB go. Built from the inside, without copies of it all.
    my ($length, @heads) = (0);
    while ($length < 15 * 1024 * 1024) {
        for my $tag ("\x0a", "\x2a") {
            my $head = $tag . varint($length);
            push @heads, $head;
            $length += length $head;
        }
    }
    is(status_of(request(span(more =>
                    bytes(9, attribute('a', join '', reverse @heads))))),
        400, 'nested a million deep');

    my @lines = split /\n/, out($server);
    is(@lines, 1, 'nothing of it is printed');
    alive('all that');
    is(stop($server), 0, 'ends');
};


subtest 'bodies: gzip, chunks, sizes' => sub {
    my $server = start('--json', "unix:$socket");
    my %gzip   = ('Content-Encoding' => 'gzip');
    my $client = connection();

    my $body = request(span());
    my $gzip = Compress::Zlib::memGzip($body);

    for my $size (1, 7, 4096) {
        send_all($client, chunked($size, $body));
        is((response($client))[0], 200, "chunks of $size");
        send_all($client, chunked($size, $gzip, %gzip));
        is((response($client))[0], 200, "gzip in chunks of $size");
    }

    send_all($client, message($gzip, 'Content-Encoding' => 'GZIP'));
    is((response($client))[0], 200, 'all on one connection');

    send_all($client, message($gzip . Compress::Zlib::memGzip($body), %gzip));
    is((response($client))[0], 200, 'two gzip members');
    is(scalar(my @spans = lines($server)), 9, 'make one body');

    send_all($client, head('Content-Length' => length $body,
            'Expect' => '100-continue'));
    ok(IO::Select->new($client)->can_read(15), 'Expect: 100-continue');
    send_all($client, $body);
    is((response($client))[0], 200, 'is told to go on');

    send_all($client, message($body, %gzip));
    is((response($client))[0], 400, 'gzip that is none');
    send_all($client, message(substr($gzip, 0, -1), %gzip));
    is((response($client))[0], 400, 'gzip cut off');
    send_all($client, message($gzip . "\0", %gzip));
    is((response($client))[0], 400, 'gzip and something more');
    (my $damaged = $gzip) =~ s/.{4}\z/\0\0\0\0/s;
    send_all($client, message($damaged, %gzip));
    is((response($client))[0], 400, 'gzip of a wrong length');
    send_all($client, message('', %gzip));
    is((response($client))[0], 400, 'gzip of nothing at all');

    my $padding = 20 * 1024 * 1024 - length request(span(more => bytes(99, '')));
    $padding -= 3 * 6;    # the lengths of five messages become longer
    my $full = request(span(more => bytes(99, "\1" x ($padding))));
    my $spare = 20 * 1024 * 1024 - length $full;
    $full = request(span(more => bytes(99, "\1" x ($padding + $spare))));
    is(length $full, 20 * 1024 * 1024, 'a body of 20 MiB');
    send_all($client, chunked(1_000_000, $full));
    is((response($client))[0], 200, 'is accepted');
    send_all($client, message($full));
    is((response($client))[0], 200, 'is accepted with its length');
    send_all($client, chunked(1_000_000, "$full\0"));
    is((response($client))[0], 413, 'a byte more is not');
    is(status_of("$full\0"), 413, 'nor with its length');

    my $before = memory($server, 'VmHWM');
    my $bomb   = Compress::Zlib::memGzip("\0" x (400 * 1024 * 1024));
    is(status_of($bomb, %gzip), 413, 'a gzip bomb');
    cmp_ok(memory($server, 'VmHWM') - $before, '<', 40 * 1024,
        'does not grow memory');

    is(stop($server), 0, 'ends');
};


subtest 'requests that are large only when decoded' => sub {
    my $server = start('--json', "unix:$socket");
    my $half   = 10 * 1024 * 1024;

    is(status_of(bytes(1, bytes(2, "\x12\0" x ($half - 20)))),
        400, 'ten million empty spans');
    is(status_of(bytes(1, bytes(2, "\x08\0" x ($half - 20)))),
        400, 'ten million unknown fields');
    cmp_ok(memory($server, 'VmHWM'), '<', 450 * 1024, 'memory is bounded');

    my $fat = attribute('a', string_value('x' x 9_000_000));
    my $span = bytes(2, id(1, $trace_id) . id(2, $span_id));
    is(status_of(bytes(1, bytes(1, bytes(1, $fat))
                . bytes(2, $span x 200_000))),
        413, 'a large resource of very many spans');
    is(out($server), '', 'nothing is printed');

    alive('all that');
    is(stop($server), 0, 'ends');
};


subtest 'half a request, endless headers, wrong lengths' => sub {
    my $server = start('--json', "unix:$socket");
    my @kept;

    my $whole = message(request(span()));
    for my $length (1, 5, 20, 60, length($whole) - 1) {
        my $client = connection();
        send_all($client, substr $whole, 0, $length);
        close $client;
    }
    alive('requests cut off');

    for my $length (0, 1, 20, 60, length($whole) - 1) {
        my $client = connection();
        send_all($client, substr $whole, 0, $length);
        push @kept, $client;
    }
    alive('requests that wait');

    srand 42;
    for (1 .. 50) {
        my $client = connection();
        send_all($client, join '', map { chr int rand 256 } 1 .. rand 3000);
        push @kept, $client;
    }
    alive('random bytes');

    for (1 .. 200) {
        my $bytes = $whole;
        substr $bytes, rand length $bytes, 1, chr int rand 256 for 1 .. 3;
        my $client = connection();
        send_all($client, $bytes);
        shutdown $client, 1;
        push @kept, $client if $_ % 4;
    }
    alive('damaged requests');

    for my $head ("POST /v1/traces HTTP/1.1\r\n" . "X-A: b\r\n" x 1_000_000,
        "POST /v1/traces HTTP/1.1\r\nX-A: " . 'b' x 8_000_000,
        'POST /' . 'a' x 8_000_000,
        "POST /v1/traces HTTP/1.1\r\nX" . "\0" x 100_000)
    {
        my $client = connection();
        send_all($client, $head);
        like((response($client))[0], qr/^(?:4\d\d|closed)$/, 'is refused');
    }
    alive('endless headers');

    for my $length ('-1', 'x', '1e3', '18446744073709551616',
        '99999999999999999999999', '4294967297', '9223372036854775807', '')
    {
        my $client = connection();
        send_all($client, head('Content-Length' => $length) . 'x');
        shutdown $client, 1;
        like((response($client))[0], qr/^(?:4\d\d|closed)$/,
            "content-length $length");
    }

    for my $chunk ('fffffffffffffffff', 'x', '-1') {
        my $client = connection();
        send_all($client,
            head('Transfer-Encoding' => 'chunked') . "$chunk\r\nx");
        shutdown $client, 1;
        like((response($client))[0], qr/^(?:4\d\d|closed)$/,
            'chunk of ' . substr $chunk, 0, 20);
    }
    alive('wrong lengths');

    for my $chunk ('ffffffffffffffff', '0' x 100_000) {
        my $client = connection();
        send_all($client,
            head('Transfer-Encoding' => 'chunked') . "$chunk\r\nx");
        push @kept, $client;
    }
    alive('chunks that do not end');
    my $cpu = cpu($server);
    sleep 1;
    cmp_ok(cpu($server) - $cpu, '<', 0.3, 'it rests while they wait');

    my $client = connection();
    send_all($client, $whole x 20);
    my $answers = '';
    ok(wait_for(sub {
        sysread $client, $answers, 4096, length $answers;
        (() = $answers =~ m{HTTP/1.1 200}g) == 20;
    }), 'twenty requests in one piece are answered');

    is(stop($server), 0, 'ends');
    ok(!-e $socket, 'removes its socket');
};


subtest 'many clients at one time' => sub {
    my $server = start('--json', "unix:$socket");
    my $whole  = message(request(span()));
    my @clients = grep { defined } map { connection() } 1 .. 200;
    is(@clients, 200, 'connect');

    send_all($_, substr $whole, 0, 100) for @clients;
    send_all($_, substr $whole, 100) for reverse @clients;
    is(scalar(grep { (response($_))[0] eq '200' } @clients), 200,
        'are answered');
    send_all($_, $whole) for @clients;
    is(scalar(grep { (response($_))[0] eq '200' } @clients), 200,
        'and again on the same connections');
    is(scalar(my @spans = lines($server)), 400, 'all is printed');

    is(stop($server), 0, 'ends while they are connected');
};


subtest 'a slow client' => sub {
    my $server = start('--json', "unix:$socket");
    my $slow   = connection();

    for my $byte (unpack '(a9)*', message(request(span()))) {
        send_all($slow, $byte);
        sleep 0.01;
        alive('a few bytes') if $byte =~ /Content/;
    }

    is((response($slow))[0], 200, 'is answered');
    is(stop($server), 0, 'ends');
};


subtest '--count and --timeout' => sub {
    my $server = start('--json', '--count', 3, "unix:$socket");
    is(status_of(request(span())), 200, 'the first of three spans');
    my $client = connection();
    my $body   = request(span(), span());
    send_all($client, message($body));
    is(join(' ', (response($client))[0, 1]), "200 \x0a\0",
        'the last request is answered');
    is(ended($server), 0, 'then it ends');
    is(scalar(my @spans = lines($server)), 3, 'all are printed');
    ok(!-e $socket, 'removes its socket');

    $server = start('--json', '--count', 2, '--timeout', 0.3,
        "unix:$socket");
    is(status_of(request(span())), 200, 'one of two spans');
    is(ended($server), 3, 'not reached in time');
    like(slurp($server->{err}), qr/1 of 2 spans/, 'says so');
    ok(!-e $socket, 'removes its socket');

    $server = start('--json', '--timeout', 0.1, "unix:$socket");
    is(ended($server), 0, 'a timeout alone is no failure');
};


subtest 'a socket file that is there' => sub {
    my $server = start('--json', "unix:$socket");
    is(sprintf('%04o', (stat $socket)[2] & 07777), '0666',
        'everybody may connect');

    my $message = `$command receive --timeout 1 unix:$socket 2>&1`;
    is($? >> 8, 1, 'a second receiver fails');
    like($message, qr/\Q$socket\E: is in use/, 'and says why');
    alive('that');

    kill KILL => $server->{pid};
    is(ended($server), 'signal 9', 'killed');
    ok(-S $socket, 'leaves a socket');

    $server = start('--json', "unix:$socket");
    alive('the stale socket was replaced');

    rename $socket, "$socket.old";
    open my $file, '>', $socket;
    print {$file} "precious\n";
    close $file;
    is(stop($server), 0, 'ends');
    is(slurp($socket), "precious\n", 'what is not its socket stays');

    $message = `$command receive --timeout 1 unix:$socket 2>&1`;
    is($? >> 8, 1, 'a file in the place of the socket is an error');
    like($message, qr/is not a socket/, 'and says why');
    is(slurp($socket), "precious\n", 'the file stays');
    unlink $socket;

    symlink '/nonexistent', $socket;
    $message = `$command receive --timeout 1 unix:$socket 2>&1`;
    like($message, qr/is not a socket/, 'a symbolic link is no socket');
    unlink $socket;
};


subtest 'a port' => sub {
    for my $host ('127.0.0.1', 'localhost', '[::1]') {
        my $server;

        SKIP: {
            skip 'no IPv6 here', 1
              if $host eq '[::1]' && !-s '/proc/net/if_inet6';

            $server = start('--json', '--count', 1, "$host:0");
            my ($port) = $server->{name} =~ /:([1-9]\d*)$/;
            ok($port, "$host:0 says its port");

            next if $host eq '[::1]' && !eval { require IO::Socket::IP };
            my $class = $host eq '[::1]' ? 'IO::Socket::IP'
                                         : 'IO::Socket::INET';
            my ($peer) = $server->{name} =~ /^\[?(.*?)\]?:\d+$/;
            my $client = $class->new(PeerHost => $peer, PeerPort => $port);
            send_all($client, message(request(span())));
            is((response($client))[0], 200, "$host: answers");
            is(ended($server), 0, "$host: ends");

            my $again = start('--json', "$peer:$port") if $host ne '[::1]';
            if ($again) {
                my $message
                  = `$command receive --timeout 1 $peer:$port 2>&1`;
                is($? >> 8, 1, 'a port in use is an error');
                like($message, qr/is in use/, 'that says so');
                stop($again);
            }
        }
    }
};


subtest 'command lines that make no sense' => sub {
    for (['two modes and no address', '--tree --json'], ['two', 'a:1 b:2'],
        ['no port', '127.0.0.1'], ['empty port', '127.0.0.1:'],
        ['port too high', '127.0.0.1:65536'],
        ['port that is none', '127.0.0.1:80x'], ['no host', ':80'],
        ['IPv6 without brackets', '::1:4318'], ['no path', 'unix:'],
        ['long path', 'unix:/' . 'a' x 107], ['count', '--count 0 a:1'],
        ['count', '--count -1 a:1'], ['count', '--count 1x a:1'],
        ['timeout', '--timeout 0 a:1'], ['timeout', '--timeout nan a:1'],
        ['settle', '--settle -1 a:1'], ['color', '--color=red 127.0.0.1:0'],
        ['header', "--header '' a:1"], ['option', '--foo a:1'])
    {
        my $message = `timeout 5 $command receive $_->[1] 2>&1`;
        is($? >> 8, 2, $_->[0]);
        like($message, qr/traceparent receive --help/, 'says where help is');
    }

    my $message = `timeout 5 $command receive 192.0.2.1:4318 2>&1`;
    is($? >> 8, 1, 'an address that is not loopback');
    like($message, qr/not a loopback address/, 'says so');
};


subtest 'nobody reads the output' => sub {
    pipe my $reader, my $writer;
    my $server = start_into($writer, '--json', "unix:$socket");
    close $writer;
    post(request(span()));
    close $reader;
    is(ended($server), 0, 'a reader that left ends it');
    ok(!-e $socket, 'removes its socket');

    pipe $reader, $writer;
    $server = start_into($writer, '--json', "unix:$socket");
    close $writer;
    my $client = connection();
    send_all($client, message(request((span()) x 1000)));
    sleep 0.3;
    is(stop($server), 1, 'a reader that does not read cannot keep it');
    ok(!-e $socket, 'removes its socket');
    close $reader;

    open my $full, '>', '/dev/full';
    $server = start_into($full, '--json', "unix:$socket");
    is(status_of(request(span())), 503, 'a full disk is not success');
    is(ended($server), 1, 'and ends it with an error');
    like(slurp($server->{err}), qr/write error: No space/, 'that it tells');

    $server = start_into('closed', '--json', "unix:$socket");
    is(status_of(request(span())), 503, 'nor is a closed output');
    is(ended($server), 1, 'it ends too');
    like(slurp($server->{err}), qr/write error: Bad file/, 'and is told');

    for my $signal (qw(INT TERM HUP)) {
        $server = start('--tree', "unix:$socket");
        kill $signal => $server->{pid};
        is(ended($server), 0, "SIG$signal ends it");
        ok(!-e $socket, 'removes its socket');
    }
};


# the tree

sub http_status {
    attributes(9, 'http.response.status_code' => int_value($_[0]));
}

sub error_type { attributes(9, 'error.type' => string_value($_[0])) }

sub error { bytes(15, number(3, 2) . bytes(2, $_[0] // '')) }

sub event {
    my ($time, $name, @of) = @_;

    return bytes(11, fixed64(1, $time) . bytes(2, $name) . attributes(3, @of));
}

sub link_to { bytes(13, id(1, $_[0]) . id(2, $_[1])) }

# A proxy's try of |ms| that begins |at| nanoseconds after $t0.
sub attempt {
    my ($id, $at, $ms, %of) = @_;

    return span(id => $id x 8, parent => $of{parent} // 'a1' x 8,
        start => $t0 + $at, ms => $ms, kind => 3, name => 'GET',
        more => attributes(9,
            'network.peer.address' => string_value($of{address}),
            $of{port} ? ('network.peer.port' => int_value($of{port})) : (),
            $of{resend}
            ? ('http.request.resend_count' => int_value($of{resend})) : (),
          ) . $of{more});
}

# Its events; each in nanoseconds after $t0, or missing.
sub events_at {
    my @names = qw(connect first_byte last_byte);

    return join '', map { defined $_[$_] ? event($t0 + $_[$_], $names[$_]) : () }
      0 .. $#names;
}


subtest 'a trace as a tree' => sub {
    my @edge = (
        span(id => 'a1' x 8, parent => '99' x 8, start => $t0,
            name => 'GET /api', more => http_status(200)
              . event($t0 + 2_000_000, 'retry')
              . link_to('ab' x 16, 'cd' x 8)),
        span(id => 'b2' x 8, parent => 'a1' x 8, start => $t0 + 5_600_000,
            ms => 6.5, kind => 3, name => 'GET', more => http_status(200)
              . attributes(9, 'server.address' => string_value('inner'))),
        span(id => 'b1' x 8, parent => 'a1' x 8, start => $t0 + 400_000,
            ms => 5.1, kind => 3, name => 'GET',
            more => http_status(502) . error_type('502') . error()),
        span(id => 'b3' x 8, parent => 'a1' x 8, start => $t0 + 12_000_000,
            ms => 0.0005, kind => 1, name => 'log', more =>
              error_type('reset') . error('no luck')),
    );
    my @inner = (
        span(id => 'c1' x 8, parent => 'b2' x 8, start => $t0 + 5_900_000,
            ms => 6, name => 'GET /api'),
    );

    is(tree_of(['--header', 'X-Tenant'],
            [request_of('inner', @inner)],
            [request_of('edge', @edge), 'X-TENANT' => 'acme']), <<"EOF", 'looks good');
trace $trace_id  5 spans in 12.3 ms  [x-tenant: acme]
\xe2\x94\x94\xe2\x94\x80 GET /api        edge   SERVER          +0  12.3 ms  200  (parent 9999999999999999 elsewhere)
   \xe2\x94\x82  \xe2\x80\xa2 +2.00 ms retry
   \xe2\x94\x82  \xe2\x86\xb3 link to trace abababababababababababababababab span cdcdcdcdcdcdcdcd
   \xe2\x94\x9c\xe2\x94\x80 GET          edge   CLIENT     +400 \xc2\xb5s  5.10 ms  502  ERROR
   \xe2\x94\x9c\xe2\x94\x80 GET \xe2\x86\x92 inner  edge   CLIENT    +5.60 ms  6.50 ms  200
   \xe2\x94\x82  \xe2\x94\x94\xe2\x94\x80 GET /api  inner  SERVER    +5.90 ms  6.00 ms
   \xe2\x94\x94\xe2\x94\x80 log          edge   INTERNAL  +12.0 ms   500 ns  ERROR  reset  no luck

EOF
};


subtest 'a trace of a proxy' => sub {
    my @spans = (
        span(id => 'a1' x 8, start => $t0, name => 'GET /api/', ms => 13.4,
            more => http_status(200)
              . attributes(9, 'nginx.cache.status' => string_value('MISS'),
                'network.peer.address' => string_value('203.0.113.9'))
              . event($t0 + 6_900_000, 'redirect',
                'http.route' => string_value('/fallback/'),
                'url.path' => string_value('/fallback/cart'),
                'http.response.status_code' => int_value(502))
              . link_to('ab' x 16, 'cd' x 8)),
        span(id => 'b1' x 8, parent => 'a1' x 8, start => $t0 + 90_000,
            ms => 1.1, kind => 1, name => 'subrequest /auth',
            more => http_status(204)),
        attempt('b2', 120_000, 1, parent => 'b1' x 8,
            address => '/run/auth.sock', more => http_status(204)
              . events_at(130_000, 1_080_000, 1_090_000)),
        attempt('c1', 1_250_000, 3, address => '10.0.0.11', port => 8080,
            more => error_type('connect') . error()),
        attempt('c2', 4_260_000, 2.6, address => '2001:db8::12', port => 8080,
            resend => 1, more => http_status(502) . error_type('502') . error()
              . events_at(4_300_000, 6_800_000, 6_850_000)
              . link_to($trace_id, 'c1' x 8)),
        attempt('d1', 6_950_000, 6.4, address => '10.0.0.13', port => 80,
            more => http_status(200) . error_type('client_closed')
              . events_at(6_990_000, 13_000_000)),
        span(id => 'e1' x 8, parent => 'd1' x 8, start => $t0 + 7_100_000,
            ms => 5.8, name => 'GET /fallback/', more => http_status(200)
              . link_to($trace_id, 'ee' x 8)),
    );

    local $ENV{LC_ALL} = 'C';

    is(tree_of([], [request_of('edge', @spans)]),
        <<"EOF", 'shows tries, hops, events and links');
trace $trace_id  7 spans in 13.4 ms
`- GET /api/                      edge  SERVER          +0  13.4 ms  200  cache MISS
   |  * +6.90 ms redirect  route=/fallback/  path=/fallback/cart  status_code=502
   |  -> link to trace abababababababababababababababab span cdcdcdcdcdcdcdcd
   |- subrequest /auth            edge  INTERNAL  +90.0 us  1.10 ms  204
   |  `- GET -> /run/auth.sock    edge  CLIENT     +120 us  1.00 ms  204
   |        * +10.0 us connect  +960 us first_byte  +970 us last_byte
   |- GET -> 10.0.0.11:8080       edge  CLIENT    +1.25 ms  3.00 ms  ERROR  connect
   |- GET -> [2001:db8::12]:8080  edge  CLIENT    +4.26 ms  2.60 ms  502  ERROR  retry 1
   |     * +40.0 us connect  +2.54 ms first_byte  +2.59 ms last_byte
   |     -> link to span c1c1c1c1c1c1c1c1  GET -> 10.0.0.11:8080
   `- GET -> 10.0.0.13:80         edge  CLIENT    +6.95 ms  6.40 ms  200  client_closed
      |  * +40.0 us connect  +6.05 ms first_byte
      `- GET /fallback/           edge  SERVER    +7.10 ms  5.80 ms  200
            -> link to span eeeeeeeeeeeeeeee

EOF
};


subtest 'a tree in ASCII' => sub {
    local $ENV{LC_ALL} = 'C';

    is(tree_of(['--tree'],
            [request(span(id => 'a1' x 8, start => $t0),
                    span(id => 'b1' x 8, parent => 'a1' x 8, ms => 0.02,
                        start => $t0, name => "caf\xc3\xa9"))]),
        <<"EOF", 'has no other characters');
trace $trace_id  2 spans in 12.3 ms
`- GET /         shop  SERVER    +0  12.3 ms
   `- caf\\u00e9  shop  SERVER    +0  20.0 us

EOF
};


subtest 'names made by an attacker' => sub {
    my $evil = "\e[2J\a\r\n\0\x7f\\\xc2\x9b31m\xe2\x80\xae\xe2\x80\xa8\xef\xbb\xbf";
    my $out  = tree_of(['--header', 'x-e', '--color=never'],
        [request_of($evil, span(name => $evil, kind => 3,
            more => error_type($evil) . error($evil)
              . attributes(9, 'network.peer.address' => string_value($evil),
                'network.peer.port' => int_value(80),
                'nginx.cache.status' => string_value($evil))
              . event($t0, $evil, $evil => string_value($evil)))),
            'X-E' => "a\e[31m"]);

    unlike($out, qr/[\x00-\x09\x0b-\x1f\x7f]/, 'no control character');
    unlike($out, qr/\xc2[\x80-\x9f]|\xe2\x80[\xa8\xae]|\xef\xbb\xbf/,
        'nor one of those above ASCII');
    is(() = $out =~ /\n/g, 4, 'no line is broken');
    like($out, qr/\\x1b\[2J\\x07\\x0d\\x0a\\x1a\\x7f\\\\\\u009b31m\\u202e\\u2028\\ufeff/,
        'they are escaped');
    is(() = $out =~ /\\x1b\[2J/g, 9, 'each of them');
    like($out, qr/\[x-e: a\\x1b\[31m\]/, 'in the header too');

    my $long = "\xc3\xa9" x 1000;
    $out = tree_of([], [request(span(name => $long, more =>
                event($t0, 'e', $long => string_value($long))
              . event($t0, 'e') x 19 . number(12, 3)
              . link_to($trace_id, $span_id) x 17 . number(14, 2)))]);
    like($out, qr/ (?:\xc3\xa9){100}\.\.\. /, 'a long name is cut');
    like($out, qr/ e  (?:\xc3\xa9){100}\.\.\.\n/, 'and long attributes');
    is_deeply([grep { $_ } map { scalar(() = /\+0 e\b/g) } split /\n/, $out],
        [1, 12, 3], '16 events, in 80 columns');
    like($out, qr/\xe2\x80\xa2 7 more events/,
        'and how many more, those that did not come too');
    like($out, qr/\xe2\x86\xb3 3 more links\n/, 'links too');
};


subtest 'parents in a ring, of itself, of depth' => sub {
    my $out = tree_of([], [request(
        span(id => 'a1' x 8, parent => 'b1' x 8, name => 'one'),
        span(id => 'b1' x 8, parent => 'a1' x 8, name => 'two'),
        span(id => 'c1' x 8, parent => 'c1' x 8, name => 'self'),
        span(id => 'c1' x 8, parent => 'c1' x 8, name => 'twin'))]);
    is(() = $out =~ /\b(?:one|two|self|twin)\b/g, 4, 'each is drawn once');

    my @chain = map { span(id => sprintf('%016x', $_ + 1),
            parent => sprintf('%016x', $_), start => $t0 + $_, name => "s$_.") }
      1 .. 5000;
    $out = tree_of([], [request(@chain)]);
    is(() = $out =~ /\bs\d+\./g, 5000, 'all of a long chain are drawn');
    cmp_ok(length $out, '<', 5000 * 250, 'in a bounded width');
    like($out, qr/ in this trace\)/, 'says where the chain goes on');
};


subtest 'when a tree is drawn' => sub {
    my $server = start('--settle', 0.2, "unix:$socket");
    post(request(span(id => 'b1' x 8, parent => 'a1' x 8, name => 'child')));
    ok(wait_for(sub { out($server) =~ /child/ }), 'when its trace is quiet');
    like(out($server), qr/\(parent a1a1a1a1a1a1a1a1 elsewhere\)/,
        'with a parent that is not there');
    post(request(span(id => 'a1' x 8, name => 'late')));
    ok(wait_for(sub { out($server) =~ /late/ }), 'a late parent is drawn');
    like(out($server), qr/^trace $trace_id \(continued\)  1 span /m,
        'as more of the same trace');
    is(stop($server), 0, 'ends');

    $server = start('--settle', 60, '--count', 3, "unix:$socket");
    post(request(span(trace => "0$_" x 16))) for 1 .. 2;
    is(out($server), '', 'nothing is drawn before that');
    post(request(span(id => 'a2' x 8, trace => '01' x 16)));
    is(ended($server), 0, 'the end');
    is(join(' ', out($server) =~ /^trace (..)/mg), '02 01',
        'draws what is left, the oldest first');

    # one span more than are kept
    $server = start('--settle', 60, "unix:$socket");
    for my $part (0 .. 4) {
        post(request(map { span(trace => '01' . sprintf('%030x', $_)) }
                  $part * 20_000 .. $part * 20_000 + 19_999));
    }
    is(out($server), '', '100,000 spans are kept');
    post(request(span()));
    is(out($server) =~ /\Atrace 01(0{30})  1 span/ ? 1 : 0, 1,
        'one more draws the oldest');
    is(() = out($server) =~ /^trace/mg, 1, 'and no other');
    cmp_ok(memory($server, 'VmRSS'), '<', 150 * 1024, 'memory is bounded');
    is(stop($server), 0, 'ends');
    is(() = out($server) =~ /^trace/mg, 100_001, 'all are drawn at the end');
};


subtest 'attributes of an event' => sub {
    my $event = event($t0, 'e',
        'string'   => string_value('a b'),
        'a.b.int'  => int_value(18446744073709551609),
        'a.true'   => number(2, 1),
        'a.false'  => number(2, 0),
        'double'   => varint(4 << 3 | 1) . pack('d<', 0.25),
        'a.list'   => bytes(5, ''),
        'nothing'  => '');

    like(tree_of([], [request(span(start => $t0, more => $event))]),
        qr/ \+0 e  string=a b  int=-7  true=true  false=false  double=0\.25(?#
         )  list=\.\.\.  nothing=\.\.\.$/m, 'of any type');
};


subtest 'odd times' => sub {
    my $out = tree_of([], [request(
        span(id => 'a1' x 8, name => 'a', start => $t0, ms => 90_000),
        span(id => 'a2' x 8, name => 'b', start => $t0, ms => -1),
        span(id => 'a3' x 8, name => 'c', ms => 0, start => $t0,
            more => fixed64(8, 0)),
        span(id => 'a4' x 8, name => 'd', start => $t0, ms => 999.6),
        span(id => 'a5' x 8, name => 'e', start => $t0, ms => 7_200_000),
        span(id => 'a6' x 8, name => 'f', start => $t0, ms => 0.0009995))]);

    my %shown = $out =~ /\b([a-f]) +shop.*? \+0 +(.*)$/mg;
    is_deeply(\%shown, { a => '90.0 s', b => 'ends early', c => 'no end',
            d => '1.00 s', e => '2.00 h', f => '999 ns' }, 'make sense')
      or diag $out;
};


subtest 'color' => sub {
    like(tree_of(['--color=always'], [request(span())]), qr/\e\[1m/,
        'always');
    like(tree_of(['--color=always'], [request(
                span(more => error_type('client_closed')))]),
        qr/\e\[33mclient_closed\e\[0m/, 'what is no error is not red');
    unlike(tree_of(['--color=auto'], [request(span())]), qr/\e/,
        'auto: not into a file');
};


done_testing();

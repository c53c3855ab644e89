# Log records, span events above all, at the receiver: what it accepts, and
# what it prints of them.

use strict;
use warnings;

use Compress::Zlib ();
use JSON::PP ();
use Test::More;
use Time::HiRes qw(sleep time);

use ReceiveCommand;


my @logs = (':path' => '/v1/logs');

sub status_of_logs { status_of($_[0], @logs, @_[1 .. $#_]) }

# A span event as nginx sends it.
sub event {
    my ($name, %of) = @_;

    my $more = delete $of{more} // '';

    return record(event => "span.$name", %of, more => attributes(6,
            'span.sequence'   => int_value($of{sequence} // 0),
            'span.pipeline'   => string_value('internal'),
            'span.request_id' => string_value($of{request} // $span_id))
          . $more);
}


subtest 'one line of JSON for each log record' => sub {
    my $server = start('--json', "unix:$socket");

    my ($status, $body, $head) = post(request(event('open',
        sequence => 7,
        more     => attributes(6,
            'span.parent_id' => string_value('11' x 8),
            'span.name'      => string_value("caf\xc3\xa9\0"),
            'span.kind'      => string_value('SERVER')) . number(7, 3))),
        @logs, 'X-Tenant' => 'acme');
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
        span_id       => $span_id,
        time          => '1700000000000000000',
        observed_time => '1700000000000000000',
        flags         => 1,
        severity      => 9,
        severity_text => '',
        body          => undef,
        attributes    => {
            'span.sequence' => 7, 'span.pipeline' => 'internal',
            'span.request_id' => $span_id, 'span.parent_id' => '11' x 8,
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
              . bytes(2, bytes(2, '') x 200_000))),
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


done_testing();

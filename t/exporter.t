# The exporter: when it sends, what, and what it makes of the answer; and a
# receiver that misbehaves in every way holds up nobody.

use strict;
use warnings;

use Test::More;
use Time::HiRes qw(sleep time);

use Nginx;
use Receiver;

sub nginx {
    my ($dir, $exporter, %conf) = @_;

    return Nginx->new(
        http => "trace_exporter internal { endpoint unix:$dir/otlp.sock; $exporter }
                 trace internal on;",
        server => 'location / { return 204; }', %conf);
}

# runs |$test| with an nginx that has sent |$n| requests' spans to a receiver
# that answers with |$answer|

sub with {
    my ($name, $exporter, $answer, $test) = @_;
    my $dir = File::Temp->newdir();
    chmod 0755, $dir;

    subtest $name => sub {
        my $receiver = Receiver->new(socket => "$dir/otlp.sock",
            $answer ? (answer => $answer) : ());
        my $nginx = nginx($dir, $exporter)->start;
        $test->($nginx, $receiver);
        unlike($nginx->log, qr/\[(alert|crit|emerg)\]/, 'log');
    };
}

sub requests {
    my ($nginx, $n) = @_;
    my $failed = 0;

    for (1 .. $n) {
        $failed++ if ($nginx->get('/') // 0) != 204;
    }

    is($failed, 0, "$n requests are served");
}

with('a batch goes when it is full, before the interval',
    'interval 60s; batch_size 10;', undef, sub {
        my ($nginx, $receiver) = @_;

        requests($nginx, 25);
        is($receiver->wait_spans(20, 5), 20, 'two batches have come');
        is_deeply([map { $_->[1] } $receiver->requests], [10, 10],
            'of ten spans each');
        ok(defined $nginx->quit, 'quit');
        is($receiver->wait_spans(25, 5), 25, 'the rest comes on quit');
    });

with('what is less than a batch goes after the interval',
    'interval 100ms;', undef, sub {
        my ($nginx, $receiver) = @_;

        requests($nginx, 5);
        is($receiver->wait_spans(5, 5), 5, 'all');
        cmp_ok(scalar $receiver->requests, '<=', 3, 'in few requests');
    });

with('one connection serves many requests', 'interval 10ms;', undef, sub {
        my ($nginx, $receiver) = @_;

        for (1 .. 5) {
            requests($nginx, 1);
            $receiver->wait_spans($_, 5);
        }

        is(scalar $receiver->requests, 5, 'five requests');
        is($receiver->connections, 1, 'on one connection');
    });

my %hostile = (
    'closes without an answer' => sub { 0 },
    'closes in the status line' => sub { print { $_[0] } 'HTTP/1.1 2'; 0 },
    'closes in the headers' =>
        sub { print { $_[0] } "HTTP/1.1 200 OK\r\nContent-Le"; 0 },
    'closes in the body' => sub {
        print { $_[0] } "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab"; 0 },
    'answers garbage' => sub { print { $_[0] } "\0\xff" x 500; 1 },
    'answers a body that is no protobuf' => sub {
        print { $_[0] } "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n\xff\xff\xff";
        1 },
    'answers two bodies' => sub { print { $_[0] } $Receiver::OK x 2; 1 },
    'answers without a length' => sub {
        print { $_[0] } "HTTP/1.1 200 OK\r\n\r\n\x0a\x00"; 0 },
    'answers in chunks' => sub {
        print { $_[0] } "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            . "1\r\n\x0a\r\n1;x=y\r\n\x00\r\n0\r\n\r\n"; 1 },
    'answers in broken chunks' => sub {
        print { $_[0] } "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            . "fffffffffffffffff\r\n"; 1 },
    'answers with two lengths' => sub {
        print { $_[0] } "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"
            . "Content-Length: 3\r\n\r\n\x0a\x00"; 1 },
    'answers with a negative length' => sub {
        print { $_[0] } "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"; 1 },
    'answers with a huge length' => sub {
        print { $_[0] } "HTTP/1.1 200 OK\r\n"
            . "Content-Length: 99999999999999\r\n\r\nab"; 0 },
    'answers endless headers' => sub {
        print { $_[0] } "HTTP/1.1 200 OK\r\n" . "X: y\r\n" x 20000; 0 },
    'answers an endless header' => sub {
        print { $_[0] } 'HTTP/1.1 200 OK' . "\r\nX: " . 'y' x 100000; 0 },
    'answers 100 over and over' => sub {
        print { $_[0] } "HTTP/1.1 100 Continue\r\n\r\n" x 5000; 0 },
    'answers 100 and then 200' => sub {
        print { $_[0] } "HTTP/1.1 100 Continue\r\n\r\n$Receiver::OK"; 1 },
    'answers HTTP/1.0' => sub {
        print { $_[0] } "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n\x0a\x00";
        0 },
    'answers 204' => sub { print { $_[0] } "HTTP/1.1 204 No\r\n\r\n"; 1 },
    'answers 400' => sub {
        print { $_[0] } "HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n"; 1 },
    'drips' => sub {
        for my $byte (split //, $Receiver::OK) {
            print { $_[0] } $byte;
            sleep 0.002;
        }
        1 },
    'answers before it has read all, and closes' =>
        sub { print { $_[0] } $Receiver::OK; 0 },
);

for my $name (sort keys %hostile) {
    my $answer = $hostile{$name};

    with("a receiver that $name the first time",
        'interval 10ms; timeout 2s;', sub {
            my ($socket, $n) = @_;

            return $n == 1 ? $answer->($socket) : Receiver::ok($socket);
        }, sub {
            my ($nginx, $receiver) = @_;

            requests($nginx, 1);
            $receiver->wait_spans(1, 5);
            sleep 0.05;
            requests($nginx, 3);
            cmp_ok($receiver->wait_spans(4, 5), '>=', 4,
                'the next spans come');
            my $time = $nginx->quit;
            ok(defined $time && $time < 3, 'quit');
        });
}

with('a silent receiver does not hold up requests, nor the exit for long',
    'interval 10ms; timeout 500ms;', sub { sleep 30; 0 }, sub {
        my ($nginx, $receiver) = @_;

        my $start = time;
        requests($nginx, 50);
        cmp_ok(time - $start, '<', 3, 'fast');

        my $time = $nginx->quit;
        ok(defined $time, 'quit');
        cmp_ok($time, '<', 1.5, 'within the timeout');
        like($nginx->log, qr/internal spans .* failed: timed out/, 'log');
        like($nginx->log, qr/spans were (dropped|not exported)/, 'loss');
    });

with('a receiver that is away and comes back', 'interval 10ms;', undef, sub {
        my ($nginx, $receiver) = @_;

        $receiver->stop;
        requests($nginx, 20);
        sleep 0.1;

        my @failed = $nginx->log =~ /export of internal spans to \S+ failed/g;
        is(scalar @failed, 1, 'one line when it goes');

        $receiver->start;
        my $before = $receiver->spans;
        requests($nginx, 20);
        $receiver->wait_spans($before + 20, 5);
        sleep 0.05;

        my @again = $nginx->log =~ /exported to \S+ again/g;
        is(scalar @again, 1, 'one line when it is back');
    });

done_testing();

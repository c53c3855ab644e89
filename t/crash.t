# Finished spans survive whoever dies: a worker at any moment, with a queue in
# a file all of nginx.

use strict;
use warnings;

use Test::More;

use Delivery;
use QueueFile;

scene 'kill -9 of a worker, 50 times under load', sub {
    my $dir = shift;
    my $receiver = receiver($dir, delay => 0.005);
    my $nginx = nginx($dir, 'queue 16m; interval 100ms; batch_size 100;')
        ->start;
    my $load = clients($nginx, rate => 4000);
    my $kills = 0;

    for (1 .. 50) {
        sleep 0.02 + rand 0.15;
        $nginx->wait_for(sub { $nginx->workers == 2 });

        my @workers = $nginx->workers;
        $kills += kill 'KILL', $workers[rand @workers];
    }

    # each client sees that its connection has ended with the last of them
    sleep 0.2;

    my $result = $load->stop;
    is($kills, 50, 'kills');
    delivered($receiver, $result, more => 1, kills => $kills);

    my $status = balance($nginx);
    is($status->{spans_exported}, scalar keys %{$receiver->ids},
        'each is counted once');
};

scene 'the next worker sends what the last one has left', sub {
    my $dir = shift;
    my $receiver = receiver($dir);
    my $nginx = nginx($dir, 'interval 1s;', main => 'worker_processes 1;')
        ->start;

    # at once, so that they wait for the interval
    my $result = clients($nginx, requests => 100)->wait;
    my ($worker) = $nginx->workers;
    my $start = time;
    kill 'KILL', $worker;

    delivered($receiver, $result);
    cmp_ok(time - $start, '<', 2 + 1, 'within two intervals');
    is(scalar $receiver->batches, 1, 'in one request, of the new worker');
    balance($nginx, recorded => 100, exported => 100);
};

# with a queue in a file

sub with_file {
    my ($dir, $lines, %conf) = @_;

    return nginx($dir, "queue 4m file=$dir/queue; interval 100ms; $lines",
        %conf);
}

scene 'kill -9 of all of nginx under load, and a start', sub {
    my $dir = shift;
    my $receiver = receiver($dir, delay => 0.005);
    my $nginx = with_file($dir, 'batch_size 100;');
    my $first = 1;

    for (1 .. 5) {
        $nginx->start;
        my $load = clients($nginx, rate => 4000, first => $first);
        sleep 0.3 + rand 0.2;
        $nginx->crash;
        my $result = $load->stop;

        $nginx->start;
        delivered($receiver, $result, more => 1, kills => 2);
        $nginx->crash;
        $first += 100_000;
    }

    $nginx->start;
    my $status = balance($nginx);
    is($status->{spans_exported}, scalar keys %{$receiver->ids},
        'counters survive, too');
};

my %ends = (
    'kill -9 of all' => sub { $_[0]->crash },
    'nginx -s stop' => sub {
        my $nginx = shift;
        my $pid = $nginx->{pid};
        my $command = join ' ', $nginx->command('-s', 'stop');
        is(`$command 2>&1`, '', 'it says nothing');
        ok(defined $nginx->gone($pid, 5), 'it is gone');
        undef $nginx->{pid};
    },
    'nginx -s quit' => sub {
        my $time = $_[0]->quit;
        ok(defined $time && $time < 3, 'it is gone after the timeout');
    },
);

my %workers = (
    'kill -9 of all' => [2, 1], 'nginx -s stop' => [1, 4],
    'nginx -s quit' => [4, 2]
);

for my $end (sort keys %ends) {
    my ($before, $after) = @{$workers{$end}};

    scene "$end without a receiver, and a start: $before workers, $after", sub
    {
        my $dir = shift;
        my $receiver = receiver($dir);
        my $nginx = with_file($dir, 'timeout 1s;',
            main => "worker_processes $before;")->start;

        $receiver->stop;
        my $result = clients($nginx, requests => 2000, connections => 64)
            ->wait;
        $ends{$end}->($nginx);

        $receiver->start;
        $nginx->{main} = "worker_processes $after;";
        $nginx->start;
        delivered($receiver, $result);
        balance($nginx, recorded => 2000, exported => 2000);
    };
}

scene 'a start with a queue of another size', sub {
    my $dir = shift;
    my $receiver = receiver($dir);
    my $nginx = with_file($dir, '')->start;

    $receiver->stop;
    my $result = clients($nginx, requests => 2000)->wait;
    $nginx->crash;
    $receiver->start;
    $nginx->{http} =~ s/queue 4m/queue 2m/ or die;
    $nginx->start;
    delivered($receiver, $result);
    balance($nginx, recorded => 2000, exported => 2000);
};

# what is in a file

sub content {
    my ($file, $content) = @_;

    open my $fh, '>:raw', $file or die $!;
    print $fh $content;
    close $fh;
}

# see ngx_http_trace_queue.c

my $entries = 4096;

sub entry_size { number("$_[0]/queue", 32) }

# an nginx that has died with 1000 spans in the file

sub dead {
    my ($dir, %conf) = @_;
    my $nginx = with_file($dir, '', %conf)->start;
    my $result = clients($nginx, requests => 1000)->wait;

    $nginx->crash;

    return ($nginx, $result);
}

scene 'what is no queue is refused', sub {
    my $dir = shift;
    my $nginx = with_file($dir, '');
    my %other = (
        'text' => sub { content("$dir/queue", "precious\n") },
        'much of it' => sub { content("$dir/queue", 'precious ' x 200_000) },
        'a single byte' => sub { content("$dir/queue", 'x') },
        'a directory' => sub { mkdir "$dir/queue" or die $! },
        'a fifo' => sub { system('mkfifo', "$dir/queue") == 0 or die },
    );

    for my $what (sort keys %other) {
        $other{$what}->();
        my ($output, $ok) = $nginx->test;
        ok(!$ok, "$what: nginx -t fails");
        like($output, qr/queue/, 'and says where');
        note $output;

        if (-f "$dir/queue") {
            my $size = -s "$dir/queue";
            my $started = eval { $nginx->start };
            ok(!$started, 'it does not start');
            $nginx->quit if $started;
            is(-s "$dir/queue", $size, 'and leaves it as it is');
            unlink "$dir/queue";
        }

        rmdir "$dir/queue";
        unlink "$dir/queue";
    }
};

scene 'a path that cannot be', sub {
    my $dir = shift;
    my $nginx = with_file("$dir/none", '');
    my ($output, $ok) = $nginx->test;

    ok(!$ok, 'nginx -t fails');
    like($output, qr{"$dir/none/queue" of "queue"}, 'and says what');
    note $output;
};

scene 'two exporters on one file', sub {
    my $dir = shift;
    my $nginx = with_file($dir, '', http => exporter($dir,
        "queue 1m file=$dir/queue; routing_header x-tenant;", 'user'));
    my ($output, $ok) = $nginx->test;

    ok(!$ok, 'nginx -t fails');
    like($output, qr{$dir/queue}, 'and says which');
    note $output;
};

scene 'nginx -t leaves no file, and takes one as it is', sub {
    my $dir = shift;
    my $nginx = with_file($dir, '');
    my ($output, $ok) = $nginx->test;

    ok($ok, 'nginx -t');
    ok(!-e "$dir/queue", 'no file');

    ($nginx) = dead($dir);
    my $before = `cksum $dir/queue`;
    ($output, $ok) = $nginx->test;
    ok($ok, 'nginx -t with the file of a dead one');
    is(`cksum $dir/queue`, $before, 'unchanged');
};

scene 'nginx -t beside a running nginx', sub {
    my $dir = shift;
    my $receiver = receiver($dir);
    my $nginx = with_file($dir, '')->start;
    my $load = clients($nginx, rate => 2000);

    for (1 .. 5) {
        my ($output, $ok) = $nginx->test;
        ok($ok, 'nginx -t');
    }

    delivered($receiver, $load->stop);
    balance($nginx);
};

my %damaged = (
    'another version' => sub { patch("$_[0]/queue", 24, pack 'Q', 99) },
    'another size of entries' => sub { patch("$_[0]/queue", 32, pack 'Q', 8) },
    'too many queues' => sub { patch("$_[0]/queue", 40, pack 'Q', 1 << 40) },
    'a queue outside' =>
        sub { patch("$_[0]/queue", $entries, pack 'Q', 1 << 40) },
    'a queue over the header' =>
        sub { patch("$_[0]/queue", $entries, pack 'Q', 0) },
    'a queue at no page' =>
        sub { patch("$_[0]/queue", $entries, pack 'Q', (1 << 20) + 1) },
    'a huge queue' =>
        sub { patch("$_[0]/queue", $entries + 8, pack 'Q', ~0) },
    'an end before the queues' =>
        sub { patch("$_[0]/queue", 48, pack 'Q', 1 << 20) },
    'an end behind the file' =>
        sub { patch("$_[0]/queue", 48, pack 'Q', ~0 & ~4095) },
    'two queues in one place' => sub {
        patch("$_[0]/queue", $entries + entry_size($_[0]), pack 'Q', 1 << 20);
    },
    'cut off in the header' => sub { truncate "$_[0]/queue", 5000 },
    'cut off in a queue' => sub { truncate "$_[0]/queue", (1 << 20) + 5000 },
    'cut off after the magic' => sub { truncate "$_[0]/queue", 24 },
);

scene 'a damaged file is replaced', sub {
    my $dir = shift;

    for my $how (sort keys %damaged) {
        my $receiver = receiver($dir);
        $receiver->stop;
        my ($nginx) = dead($dir);
        $damaged{$how}->($dir);

        my ($output, $ok) = $nginx->test;
        ok($ok, "$how: nginx -t");
        like($output, qr/\[warn\].*"$dir\/queue" of "queue" .* takes its /,
            'with a warning') or diag $output;

        $receiver->start;
        $nginx->start;
        like($nginx->log, qr/\[warn\].*"$dir\/queue" of "queue" .* lost/,
            'a warning');
        my $result = clients($nginx, requests => 100)->wait;
        delivered($receiver, $result);
        balance($nginx, recorded => 100, exported => 100);
        $nginx->quit;
        unlink "$dir/queue";
    }
};

scene 'a damaged queue in a good file is replaced, and counted', sub {
    my $dir = shift;
    my $receiver = receiver($dir);
    $receiver->stop;
    my ($nginx, $result) = dead($dir);

    # one of the workers may have got nothing

    my ($entry, $lost) = ($entries);
    for (1 .. 2) {
        $lost = number("$dir/queue", $entry + entry_size($dir) - 24);
        last if $lost;
        $entry += entry_size($dir);
    }
    cmp_ok($lost, '>', 0, 'spans in a queue');
    my $start = number("$dir/queue", $entry);
    patch("$dir/queue", $start + 64, "\xff" x 100);

    $receiver->start;
    $nginx->start;
    balance($nginx, recorded => 1000, exported => 1000 - $lost,
        damaged => $lost);
    is($receiver->spans, 1000 - $lost, 'the others have come');
    is_deeply([$receiver->torn], [], 'none is torn');
    like($nginx->log, qr/a queue with $lost spans was damaged/, 'log');
};

# killed between the record and its counters

scene 'spans that nobody counted come all the same', sub {
    my $dir = shift;
    my $receiver = receiver($dir);
    $receiver->stop;
    my ($nginx, $result) = dead($dir, main => 'worker_processes 4;');
    my $size = entry_size($dir);

    patch("$dir/queue", $entries + ($_ + 1) * $size - 24, pack 'Q', 0)
        for 0 .. 3;
    patch("$dir/queue", $entries + $_ * $size + 40, pack 'Q', 0) for 0 .. 3;

    $receiver->start;
    $nginx->{main} = 'worker_processes 1;';
    $nginx->start;
    delivered($receiver, $result);
    balance($nginx, recorded => 1000, exported => 1000);
};

# in a container, a worker often has the pid of its predecessor

scene 'the pid of an owner may come again', sub {
    my $dir = shift;
    my $receiver = receiver($dir);
    $receiver->stop;
    my ($nginx, $result) = dead($dir, main => 'worker_processes 2;');
    my $size = entry_size($dir);

    $receiver->start;
    $nginx->{main} = 'worker_processes 1;';
    $nginx->start;

    my ($worker) = $nginx->workers;
    patch("$dir/queue", $entries + $_ * $size + 16, pack 'Q', $worker)
        for 0 .. 1;

    delivered($receiver, $result);
    balance($nginx, recorded => 1000, exported => 1000);
};

done_testing();

# Every span that is recorded is exported, or dropped for a reason that is
# counted: with receivers that are away, slow, restarted, or that say no.
# TEST_LONG=1 has the receiver away for a minute.

use strict;
use warnings;

use IO::Socket::IP;
use Test::More;

use Delivery;

my $away = $ENV{TEST_LONG} ? 60 : 6;
my $MiB = 1024 * 1024;

scene 'a receiver is away under load, and comes back', sub {
    my $dir = shift;
    my $receiver = receiver($dir);
    my $nginx = nginx($dir, 'queue 64m; interval 100ms;
        compression gzip; batch_size 1000;')->start;
    my $load = clients($nginx, rate => 2000);

    $receiver->wait_spans(1000);
    my $before = $nginx->memory;
    $receiver->stop;

    my $end = time + $away;
    my ($most, $over) = (0, 0);

    while (time < $end) {
        my $memory = $nginx->memory;
        my $used = status($nginx)->{queue_bytes};

        $over = $memory - $before - $used if $memory - $before - $used > $over;
        $most = $memory if $memory > $most;
        sleep 0.25;
    }

    my $while = status($nginx);
    is($while->{export_up}, 0, 'that is known');
    cmp_ok($while->{queue_oldest_seconds}, '>=', $away / 2,
        'the oldest span is old');

    $receiver->start;
    sleep 1;
    my $result = $load->stop;

    is($result->{failed}, 0, 'no request fails');
    cmp_ok($result->{slowest}, '<', 1, 'no request waits');
    delivered($receiver, $result);
    my $status = balance($nginx);
    is($status->{export_up}, 1, 'up again');

    SKIP: {
        skip 'a sanitizer keeps what is freed', 2 if $ENV{ASAN_OPTIONS};

        cmp_ok($most, '<', $before + 2 * 64 * $MiB + 8 * $MiB,
            'memory is bounded by the queues');
        cmp_ok($over, '<', 8 * $MiB, 'which alone have grown');
    }

    note sprintf 'memory %.1f MiB before, %.1f most, %.1f beside the queues, '
        . '%d spans', $before / $MiB, $most / $MiB, $over / $MiB,
        $status->{spans_exported};
};

scene '100,000 requests, as fast as they go; answers take 100 ms', sub {
    my $dir = shift;
    my $receiver = receiver($dir, delay => 0.1, whole => 0);
    # one of the workers may get nearly all of them
    my $nginx = nginx($dir, 'queue 64m;')->start;
    my $result = clients($nginx, requests => 100_000, connections => 32)->wait;

    is(scalar @{$result->{finished}}, 100_000, 'all are served');
    note sprintf '%.0f requests/s, slowest %.3f s',
        100_000 / $result->{seconds}, $result->{slowest};
    delivered($receiver, $result, seconds => 40);
    balance($nginx, recorded => 100_000, exported => 100_000);
};

scene 'connections N are used at the same time', sub {
    my $dir = shift;
    my $receiver = receiver($dir, delay => 0.5);
    my $nginx = nginx($dir, 'connections 4; batch_size 10; interval 50ms;',
        main => 'worker_processes 1;')->start;
    my $result = clients($nginx, requests => 200)->wait;

    delivered($receiver, $result);
    balance($nginx, exported => 200);
    is($receiver->connections, 4, 'four connections');

    # 20 requests of half a second, which would take 10 s one by one
    my @times = sort map { $_->{answered} } $receiver->batches;
    cmp_ok($times[-1] - $times[0], '<', 6, 'side by side');

    my %per_connection;
    $per_connection{$_->{connection}}++ for $receiver->batches;
    cmp_ok($_, '>', 2, 'each has its share') for values %per_connection;
};

scene 'a receiver is restarted 20 times under load', sub {
    my $dir = shift;

    # it is often stopped when it has a request and has not answered yet
    my $receiver = receiver($dir, delay => 0.02);
    my $nginx = nginx($dir, 'queue 32m; interval 20ms; batch_size 100;')
        ->start;
    my $load = clients($nginx, rate => 3000);

    for (1 .. 20) {
        sleep 0.05 + rand 0.15;
        $receiver->stop;
        sleep rand 0.1;
        $receiver->start;
    }

    my $result = $load->stop;
    is($result->{failed}, 0, 'no request fails');
    delivered($receiver, $result, more => 1);

    # only spans whose request had no answer may come again

    my (%answered, @twice);

    for my $batch ($receiver->batches) {
        for my $id (split /,/, $batch->{ids}) {
            push @twice, $id if $answered{$id};
            $answered{$id} = 1 if $batch->{answered};
        }
    }

    is("@twice", '', 'none comes again that was answered');

    my $lost = grep { !$_->{answered} } $receiver->batches;
    cmp_ok($lost, '>', 0, "answers are lost: $lost");

    my $status = balance($nginx);
    is($status->{spans_recorded}, @{$result->{finished}} + @{$result->{maybe}},
        'all are recorded');

    my $more = $receiver->spans - $status->{spans_recorded};
    my ($unanswered, $perhaps) = (0, 0);

    for my $batch (grep { !$_->{answered} } $receiver->batches) {
        $unanswered += $batch->{spans};
        $perhaps += $batch->{spans} if $batch->{answering};
    }

    ok($more <= $unanswered && $more >= $unanswered - $perhaps,
        "duplicates: $more, what came without an answer: $unanswered,"
        . " or perhaps with one: $perhaps");
};

scene 'a queue is full', sub {
    my $dir = shift;
    my $receiver = receiver($dir);
    my $nginx = nginx($dir, 'queue 256k; interval 50ms;')->start;

    $receiver->stop;
    my $result = clients($nginx, requests => 20_000)->wait;

    is($result->{failed}, 0, 'no request fails');
    cmp_ok($result->{slowest}, '<', 1, 'no request waits');
    note sprintf '%.0f requests/s', 20_000 / $result->{seconds};

    my $status = status($nginx);
    my $full = $status->{spans_dropped}{queue_full};
    is($status->{spans_recorded}, 20_000, 'all are counted');
    cmp_ok($full, '>', 10_000, 'as dropped, most');
    cmp_ok($status->{queue_bytes}, '<=', 512 * 1024, 'the rest is bounded');
    cmp_ok($status->{queue_bytes}, '>', 250 * 1024, 'and fills a queue');
    my @lines = $nginx->log =~ /spans were dropped, .*"queue_full"/g;
    cmp_ok(scalar @lines, '>=', 1, 'the log says so');
    cmp_ok(scalar @lines, '<=', 2, 'once for each worker');

    $receiver->start;
    balance($nginx, recorded => 20_000, exported => 20_000 - $full,
        queue_full => $full);
    is($receiver->spans, 20_000 - $full, 'the oldest have come');
};

# answers to the first requests, then 200

sub answers {
    my @answers = @_;

    return sub {
        my ($socket, $n) = @_;

        return Receiver::ok($socket) if $n > @answers;
        return Receiver::status($socket, ref $answers[$n - 1]
            ? $answers[$n - 1]->() : split / /, $answers[$n - 1], 2);
    };
}

for my $code (429, 502, 503, 504) {
    scene "$code, and then 200", sub {
        my $dir = shift;
        my $receiver = receiver($dir, answer => answers($code, $code));
        my $nginx = nginx($dir, 'interval 20ms;',
            main => 'worker_processes 1;')->start;

        my $result = clients($nginx, requests => 10, connections => 1)->wait;
        my $status = balance($nginx, exported => 10);
        delivered($receiver, $result, more => 1);
        is($status->{export_retries}, 2, 'two are retried');
        is($status->{export_failures}{retryable}, 2, 'two have failed');
        my @failed = $nginx->log =~ /failed: status $code/g;
        is(scalar @failed, 1, 'the log says so, once');
    };
}

for my $code (400, 404, 413, 500) {
    my $reason = $code == 413 ? 'too_large' : 'rejected';

    scene "$code drops a batch, and no other", sub {
        my $dir = shift;
        my $receiver = receiver($dir, answer => answers($code));
        my $nginx = nginx($dir, 'interval 1s; batch_size 10;',
            main => 'worker_processes 1;')->start;

        clients($nginx, requests => 30, connections => 1)->wait;
        balance($nginx, recorded => 30, exported => 20, $reason => 10);
        is($receiver->spans, 30, 'nothing is sent again');
    };
}

my %retry_after = (
    'in seconds' => sub { 'Retry-After: 2' },
    'as a date' => sub {
        require POSIX;
        return 'Retry-After: ' . POSIX::strftime('%a, %d %b %Y %H:%M:%S GMT',
            gmtime(time + 3));
    },
);

for my $how (sort keys %retry_after) {
    scene "Retry-After $how", sub {
        my $dir = shift;
        my $receiver = receiver($dir,
            answer => answers(sub { 503, $retry_after{$how}->() }));
        my $nginx = nginx($dir, 'interval 20ms;',
            main => 'worker_processes 1;')->start;

        my $result = clients($nginx, requests => 1)->wait;
        balance($nginx, exported => 1);
        delivered($receiver, $result, more => 1);
        my @batches = $receiver->batches;
        is(scalar @batches, 2, 'it is sent twice');
        my $wait = $batches[1]{time} - $batches[0]{time};
        cmp_ok($wait, '>', 1.8, sprintf 'after %.2f s', $wait);
        cmp_ok($wait, '<', 6, 'and not much later');
    };
}

scene 'retry_time is over', sub {
    my $dir = shift;
    my $receiver = receiver($dir, answer => sub {
        my ($socket, $n, $request) = @_;
        return $request->{body} =~ m{/r/[1-9];}
            ? Receiver::status($socket, 503) : Receiver::ok($socket);
    });
    my $nginx = nginx($dir, 'interval 20ms; retry_time 1s;',
        main => 'worker_processes 1;')->start;

    clients($nginx, requests => 9)->wait;
    my $status = balance($nginx, recorded => 9, exported => 0,
        retry_expired => 9);
    cmp_ok($status->{export_retries}, '>', 0, 'they were retried');

    clients($nginx, requests => 10, first => 10)->wait;
    balance($nginx, recorded => 19, exported => 10, retry_expired => 9);
};

# user spans, whose tenant a map makes of the path

sub tenants {
    my ($dir, $lines, $map) = @_;

    return Nginx->new(main => 'worker_processes 1;', http =>
        exporter($dir, "routing_header x-tenant; interval 20ms; timeout 1s;
            $lines", 'user') . "map \$uri \$tenant { $map }
        trace_routing \$tenant;",
        server => 'location / { trace user on; return 204; }
            location = /status { trace_status format=json; }')->start;
}

scene 'the 503 of one tenant is no trouble of another', sub {
    my $dir = shift;
    my $receiver = receiver($dir, answer => sub {
        my ($socket, $n, $request) = @_;
        return $request->{tenant} =~ /[0-4]/
            ? Receiver::status($socket, 503) : Receiver::ok($socket);
    });

    # the tenant is the last digit of the number
    my $nginx = tenants($dir, 'retry_time 5s;', '"~(?<digit>\d);$" t$digit;');

    my $load = clients($nginx, rate => 1000);
    my @behind;

    for (1 .. 4) {
        sleep 1;
        my $recorded = status($nginx, 'user')->{spans_recorded};
        my $good = grep { /[5-9]$/ } keys %{$receiver->ids};
        push @behind, $recorded / 2 - $good;
    }

    my $result = $load->stop;
    my @good = grep { /[5-9]$/ } @{$result->{finished}};
    my @bad = grep { /[0-4]$/ } @{$result->{finished}};

    delivered($receiver, { finished => \@good, maybe => [] }, more => 1,
        seconds => 3);
    cmp_ok($_, '<', 500, 'those of the others come at once') for @behind;

    balance($nginx, pipeline => 'user', exported => scalar @good,
        retry_expired => scalar @bad);

    my @lines = $nginx->log =~ /rejects user spans: status 503/g;
    is(scalar @lines, 1, 'one line in the log');

    # an exit is in a hurry, and yet does not ask all the time

    clients($nginx, requests => 100, first => 1_000_000)->wait;
    my $before = $receiver->batches;
    my $time = $nginx->quit;
    cmp_ok($time, '<', 4, sprintf 'quit takes %.2f s', $time);
    my $requests = $receiver->batches - $before;
    cmp_ok($requests, '<', 300, "with $requests requests");
    is(scalar(grep { $_ >= 1_000_000 && /[5-9]$/ } keys %{$receiver->ids}),
        50, 'the others get theirs');
};

scene 'what one tenant is refused makes room for the others', sub {
    my $dir = shift;
    my ($first, $recorded, $others, $full) = (1, 0, 0, 0);

    # while it is asked, its spans are under way, and stay where they are
    my $receiver = receiver($dir, delay => 0.05, answer => sub {
        my ($socket, $n, $request) = @_;
        return $request->{tenant} eq 'bad' && !-e "$dir/accepted"
            ? Receiver::status($socket, 503) : Receiver::ok($socket);
    });
    my $nginx = tenants($dir, 'queue 256k;',
        '"~[0-4];$" bad; default good;');

    my $flow = sub {
        my $when = shift;
        my $load = clients($nginx, rate => 1000, first => $first);

        sleep 3;
        my $result = $load->stop;
        $first += 100_000;
        $recorded += @{$result->{finished}};

        # none of the others' is dropped
        my @good = grep { /[5-9]$/ } @{$result->{finished}};
        $others += @good;
        delivered($receiver, { finished => \@good, maybe => [] }, more => 1,
            seconds => 3);

        my $before = $full;
        my $status = status($nginx, 'user');
        $full = $status->{spans_dropped}{queue_full};
        cmp_ok($full, '>', $before + 200,
            "$when: of the one's $full are dropped");
        cmp_ok($status->{queue_spans}, '>', 200,
            "and $status->{queue_spans} wait");
    };

    # until the receiver has told this worker

    my $refused = sub {
        my $failed = status($nginx, 'user')->{export_failures}{retryable};

        $nginx->wait_for(sub { status($nginx, 'user')
            ->{export_failures}{retryable} > $failed + 1 });
    };

    $flow->('at first');
    my $failed = status($nginx, 'user')->{export_failures}{retryable};
    cmp_ok($failed, '<', 12, "and are not asked for more often: $failed");

    kill 'KILL', $nginx->workers;
    $refused->();
    $flow->('after kill -9');

    $nginx->reload;
    $refused->();
    $flow->('after a reload');

    like($nginx->log, qr/user spans were dropped, .*"queue_full"/,
        'the log says so');

    open my $fh, '>', "$dir/accepted" or die $!;
    $full = settled($nginx, 'user')->{spans_dropped}{queue_full};
    balance($nginx, pipeline => 'user', recorded => $recorded,
        exported => $recorded - $full, queue_full => $full);
    my $left = $recorded - $full - $others;
    cmp_ok($left, '>', 200, "the one's come that were left: $left");
};

scene 'what is under way stays, however full the queue is', sub {
    my $dir = shift;
    my $asked = 0;
    my $receiver = receiver($dir, answer => sub {
        my ($socket, $n, $request) = @_;

        if ($request->{tenant} eq 'bad') {
            $asked++;
            return Receiver::status($socket, 503, 'Retry-After: 1')
                if $asked == 1;
            sleep 0.8 if $asked == 2;
        }

        return Receiver::ok($socket);
    });
    my $nginx = tenants($dir, 'queue 256k;', '"~/\d{1,3};$" bad;
        default good;');

    my $result = clients($nginx, requests => 300)->wait;
    $nginx->wait_for(sub { 2 == grep { $_->{tenant} eq 'bad' }
        $receiver->batches });
    clients($nginx, requests => 3000, first => 1000)->wait;

    delivered($receiver, $result, more => 1);
    my $full = settled($nginx, 'user')->{spans_dropped}{queue_full};
    cmp_ok($full, '>', 1000, 'it was full');
    is(3300 - keys %{$receiver->ids}, $full, 'what was dropped has not come');
    balance($nginx, pipeline => 'user', recorded => 3300,
        queue_full => $full);
};

scene 'gzip', sub {
    my $dir = shift;
    my $receiver = receiver($dir);
    my $nginx = nginx($dir, 'compression gzip; interval 50ms;
        batch_size 200;')->start;
    my $result = clients($nginx, requests => 3000)->wait;

    delivered($receiver, $result);
    my $status = balance($nginx, exported => 3000);

    my @batches = $receiver->batches;
    my ($raw, $bytes) = (0, 0);
    $raw += $_->{raw}, $bytes += $_->{bytes} for @batches;
    is(scalar(grep { $_->{encoding} ne 'gzip' } @batches), 0, 'all are gzip');
    is($status->{export_bytes}, $raw, 'what was sent is counted');
    cmp_ok($raw, '<', $bytes / 3, "$bytes bytes became $raw");
};

scene 'a request is never larger than 4 MiB', sub {
    my $dir = shift;
    my $receiver = receiver($dir);
    my $nginx = nginx($dir, 'batch_size 8192; queue 64m; interval 300ms;',
        http => 'large_client_header_buffers 4 32k;',
        server => 'location / { trace internal on; return 204;
                trace_attribute internal a $arg_a;
                trace_attribute internal b $arg_b; }
            location = /status { trace_status format=json; }')->start;
    my $result = clients($nginx, requests => 1000,
        path => '/r/%d;?a=' . 'x' x 9000 . '&b=' . 'y' x 9000)->wait;

    delivered($receiver, $result);
    balance($nginx, exported => 1000);

    my @bytes = sort { $a <=> $b } map { $_->{bytes} } $receiver->batches;
    cmp_ok($bytes[-1], '<=', 4 * $MiB, "the largest has $bytes[-1] bytes");
    cmp_ok($bytes[-1], '>', 3.9 * $MiB, 'and not much less');
};

scene 'over TCP', sub {
    my $dir = shift;
    my $receiver = receiver($dir, socket => undef, log => "$dir/log");
    my $nginx = nginx($dir, 'interval 50ms;',
        endpoint => "http://127.0.0.1:$receiver->{port}")->start;

    delivered($receiver, clients($nginx, requests => 2000)->wait);
    balance($nginx, exported => 2000);
};

my $ipv6 = IO::Socket::IP->new(LocalHost => '::1', Listen => 1);

SKIP: {
    skip 'no IPv6 here', 1 if !$ipv6;
    undef $ipv6;

    scene 'over IPv6', sub {
        my $dir = shift;
        my $receiver = receiver($dir, socket => undef, log => "$dir/log",
            address => '::1');
        my $nginx = nginx($dir, 'interval 50ms;',
            endpoint => "http://[::1]:$receiver->{port}")->start;

        delivered($receiver, clients($nginx, requests => 2000)->wait);
        balance($nginx, exported => 2000);
    };
}

# a name with two addresses, of which one alone answers

for my $address ('127.0.0.1', '127.0.0.2') {
    SKIP: {
        skip 'no hosts file of our own without root', 1
            if system('unshare -m mount --bind /etc/hosts /etc/hosts '
                . '> /dev/null 2>&1');

        scene "a name with two addresses, of which $address answers", sub {
            my $dir = shift;
            my $receiver = receiver($dir, socket => undef,
                log => "$dir/log", address => $address);

            open my $fh, '>', "$dir/hosts" or die $!;
            print $fh "127.0.0.1 both.test\n127.0.0.2 both.test\n";
            close $fh;

            my $nginx = nginx($dir, 'interval 50ms;',
                endpoint => "http://both.test:$receiver->{port}", wrapper => [
                'unshare', '-m', 'sh', '-c',
                'mount --bind "$0" /etc/hosts && exec "$@"', "$dir/hosts"])
                ->start;

            my $result = clients($nginx, requests => 2000)->wait;
            delivered($receiver, $result);
            balance($nginx, exported => 2000);
        };
    }
}

done_testing();

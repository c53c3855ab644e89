# Reloads, exits and upgrades: no span is lost on the way, and nobody waits for
# a receiver for longer than its timeout.

use strict;
use warnings;

use Test::More;

use Delivery;

# only the workers of the last configuration are there

sub settle {
    my ($nginx, $workers, $seconds) = @_;
    my $start = time;

    $nginx->wait_for(sub { $nginx->workers == $workers }, $seconds + 10);
    is(scalar(my @now = $nginx->workers), $workers, "$workers workers");
    my $time = time - $start;
    cmp_ok($time, '<', $seconds, sprintf 'after %.2f s', $time);

    return $time;
}

scene '100 reloads under load', sub {
    my $dir = shift;
    my $receiver = receiver($dir);
    my $nginx = nginx($dir, 'queue 8m; interval 100ms; timeout 2s;')->start;
    my $load = clients($nginx, rate => 1500, keepalive => 0);

    for (1 .. 100) {
        $nginx->reload;
        sleep rand 0.06;
    }

    settle($nginx, 2, 5);
    my $result = $load->stop;
    is($result->{failed}, 0, 'no request fails');
    cmp_ok($result->{slowest}, '<', 2, 'no request waits');
    delivered($receiver, $result);
    balance($nginx, recorded => scalar @{$result->{finished}});
};

my %away = (
    'is away' => sub { $_[0]->stop },
    'hangs' => sub { $_[0]->freeze },
);

for my $how (sort keys %away) {
    scene "reloads with a receiver that $how", sub {
        my $dir = shift;
        my $receiver = receiver($dir);
        my $nginx = nginx($dir, 'interval 100ms; timeout 1s;')->start;

        $away{$how}->($receiver);
        my $load = clients($nginx, rate => 1000, keepalive => 0);

        for (1 .. 5) {
            sleep 0.2;
            $nginx->reload;
        }

        settle($nginx, 2, 4);
        my $result = $load->stop;
        is($result->{failed}, 0, 'no request fails');
        is(status($nginx)->{spans_exported}, 0, 'nothing is exported');

        $how eq 'hangs' ? $receiver->thaw : $receiver->start;
        delivered($receiver, $result, more => $how eq 'hangs');
        balance($nginx, recorded => scalar @{$result->{finished}},
            exported => scalar @{$result->{finished}});
    };

    scene "quit with a receiver that $how", sub {
        my $dir = shift;
        my $receiver = receiver($dir);
        my $nginx = nginx($dir, 'interval 100ms; timeout 1s;')->start;

        $away{$how}->($receiver);
        clients($nginx, requests => 1000)->wait;
        my $time = $nginx->quit;
        ok(defined $time, 'it ends');
        cmp_ok($time, '<', 3, sprintf 'after %.2f s', $time);
        like($nginx->log, qr/spans were not exported before the exit/, 'log');
    };
}

scene 'quit sends what there is', sub {
    my $dir = shift;
    my $receiver = receiver($dir, delay => 0.05);
    my $nginx = nginx($dir, 'interval 60s; batch_size 100;')->start;
    my $result = clients($nginx, requests => 2000)->wait;
    my $time = $nginx->quit;

    ok(defined $time, sprintf 'it ends after %.2f s', $time);
    delivered($receiver, $result);
    unlike($nginx->log, qr/not exported/, 'log');
};

scene 'worker_shutdown_timeout comes before timeout', sub {
    my $dir = shift;
    my $receiver = receiver($dir);
    my $nginx = nginx($dir, 'interval 100ms; timeout 20s;',
        main => 'worker_processes 1; worker_shutdown_timeout 500ms;')->start;

    $receiver->freeze;
    my $result = clients($nginx, requests => 1000)->wait;
    sleep 0.2;
    $nginx->reload;
    settle($nginx, 1, 4);

    $receiver->thaw;
    delivered($receiver, $result, more => 1);
    balance($nginx, exported => 1000);
};

# each a change of the configuration, with spans of before that nobody has yet

my %changes = (
    'a larger queue' => sub { s/queue 1m/queue 3m/ or die },
    'a smaller queue' => sub { s/queue 1m/queue 256k/ or die },
    'another endpoint' => sub { s/otlp\.sock/other.sock/ or die },
    'gzip' => sub { s/queue/compression gzip; queue/ or die },
);

for my $file ('', 'file=') {
    for my $change (sort keys %changes) {
        next if $file && $change !~ /larger|endpoint/;

        scene "a reload with $change" . ($file && ', and a file'), sub {
            my $dir = shift;
            my $path = $file && "$file$dir/queue";
            my $receiver = receiver($dir);
            my $other = receiver($dir, socket => "$dir/other.sock");
            my $nginx = nginx($dir, "queue 1m $path; interval 50ms;
                timeout 300ms;")->start;

            $_->stop for $receiver, $other;
            my $result = clients($nginx, requests => 1000)->wait;
            my $http = $nginx->{http};
            $changes{$change}->() for $http;
            $nginx->reload(http => $http);
            settle($nginx, 2, 4);

            my $new = $change eq 'another endpoint' ? $other : $receiver;
            $new->start;
            delivered($new, $result);
            balance($nginx, recorded => 1000, exported => 1000);
        };
    }
}

for my $workers ([4, 1], [1, 4]) {
    my ($before, $after) = @$workers;

    scene "from $before to $after workers under load, and back", sub {
        my $dir = shift;
        my $receiver = receiver($dir);
        my $nginx = nginx($dir, 'queue 8m; interval 50ms; timeout 300ms;',
            main => "worker_processes $before;")->start;
        my $load = clients($nginx, rate => 1000, keepalive => 0);

        for ($after, $before, $after) {
            $receiver->stop;
            sleep 0.2;
            $nginx->reload(main => "worker_processes $_;");
            settle($nginx, $_, 4);
            $receiver->start;
        }

        my $result = $load->stop;
        is($result->{failed}, 0, 'no request fails');
        delivered($receiver, $result);
        balance($nginx);
    };
}

scene 'an exporter that is removed, and comes again', sub {
    my $dir = shift;
    my $receiver = receiver($dir);
    my $nginx = nginx($dir, 'interval 60s;')->start;
    my $with = $nginx->{server};
    my $http = $nginx->{http};

    my $result = clients($nginx, requests => 100)->wait;
    $nginx->reload(http => '', server => 'location / { return 204; }');
    delivered($receiver, $result);
    settle($nginx, 2, 4);
    clients($nginx, requests => 100, first => 1000)->wait;

    $nginx->reload(http => $http, server => $with);
    settle($nginx, 2, 4);
    $result = clients($nginx, requests => 100, first => 2000)->wait;
    $nginx->quit;
    delivered($receiver, $result);
    is(scalar keys %{$receiver->ids}, 200, 'none of those in between');
};

for my $file ('', ', with a file') {
    scene "a new binary, then quit of the old master$file", sub {
        my $dir = shift;
        my $receiver = receiver($dir);
        my $nginx = nginx($dir, 'interval 100ms; timeout 2s;'
            . ($file && "queue 4m file=$dir/queue;"), daemon => 1)->start;
        my $load = clients($nginx, rate => 1000, keepalive => 0);
        my $old = $nginx->{pid};

        $nginx->signal('USR2');
        ok($nginx->wait_for(sub { ($nginx->pid || $old) != $old }),
            'a new master');
        sleep 0.3;
        $nginx->signal('QUIT');
        ok(defined $nginx->gone($old, 10), 'the old one is gone');
        $nginx->{pid} = $nginx->pid;
        sleep 0.3;

        my $result = $load->stop;
        is($result->{failed}, 0, 'no request fails');
        delivered($receiver, $result);
        balance($nginx);
        ok(defined $nginx->quit, 'quit');
    };
}

# where quit is the same as stop, and has no time to send anything

scene 'master_process off', sub {
    my $dir = shift;
    my $receiver = receiver($dir);
    my $nginx = nginx($dir, "interval 100ms; queue 4m file=$dir/queue;",
        main => 'master_process off;')->start;

    my $result = clients($nginx, requests => 1000)->wait;
    delivered($receiver, $result);
    balance($nginx, recorded => 1000, exported => 1000);

    $receiver->freeze;
    $result = clients($nginx, requests => 1000, first => 2000)->wait;
    ok(defined $nginx->quit, 'quit');
    like($nginx->log, qr/1000 internal spans were not exported .* in the file/,
        'log');
    $receiver->thaw;
    $nginx->start;
    delivered($receiver, $result, more => 1);
    balance($nginx, recorded => 2000, exported => 2000);
};

scene 'daemon on', sub {
    my $dir = shift;
    my $receiver = receiver($dir);
    my $nginx = nginx($dir, 'interval 100ms;', daemon => 1)->start;
    my $result = clients($nginx, requests => 1000)->wait;

    $nginx->reload;
    settle($nginx, 2, 5);
    ok(defined $nginx->quit, 'quit');
    delivered($receiver, $result);
};

done_testing();

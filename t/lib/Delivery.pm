package Delivery;

# What the tests of delivery have in common: an nginx, a receiver and clients,
# and the question that matters, whether every span has come.
#
#   scene 'name', sub {                  # a subtest, with a directory
#       my $dir = shift;
#       my $receiver = receiver($dir);
#       my $nginx = nginx($dir, 'interval 100ms;')->start;
#       ...
#       delivered($receiver, $result);   # each span once, or more => 1
#       balance($nginx, recorded => 10, exported => 10);
#   };
#
# With TEST_SCENE=PATTERN only scenes of such a name run.

use strict;
use warnings;

use Exporter 'import';
use File::Temp;
use JSON::PP;
use Test::More;
use Time::HiRes qw(sleep time);

use Load;
use Nginx;
use Receiver;

our @EXPORT = qw(scene receiver exporter nginx clients delivered status
    balance settled sleep time);

my $only = $ENV{TEST_SCENE} // '';
my $directory;

sub scene {
    my ($name, $test) = @_;

    return if $name !~ /(?:$only)/;     # // is the pattern before

    $directory = File::Temp->newdir();
    chmod 0755, $directory;

    subtest $name => sub {
        my $start = time;
        eval { $test->("$directory"); 1 } or fail("it dies: $@");
        note sprintf '%s: %.1f s', $name, time - $start;
    };
}

# one that looks at each span and keeps the numbers

sub receiver {
    my ($dir, %conf) = @_;

    return Receiver->new(socket => "$dir/otlp.sock", ids => 1, whole => 1,
        %conf);
}

sub exporter {
    my ($dir, $lines, $name, $endpoint) = @_;

    $name ||= 'internal';
    $endpoint ||= "unix:$dir/otlp.sock";
    return "trace_exporter $name { endpoint $endpoint; $lines }";
}

sub nginx {
    my ($dir, $lines, %conf) = @_;
    my $main = delete $conf{main} // 'worker_processes 2;';
    my $http = delete $conf{http} // '';

    $http .= exporter($dir, $lines, 'internal', delete $conf{endpoint});

    # the status shows what is open

    return Nginx->new(main => $main, shows_internal => 'response',
        http => "keepalive_requests 1000000; $http",
        server => 'location / { trace internal on; return 204; }
                   location = /status { trace_status format=json; }', %conf);
}

sub clients {
    my ($nginx, %conf) = @_;

    return Load->new(nginx => $nginx, %conf);
}

# Whether the span of each finished request has come: once, or with more => 1
# at least once. Where a worker was killed in between, a response may have left
# without its span, one for each of kills => N; elsewhere none.

sub delivered {
    my ($receiver, $result, %allow) = @_;
    my @finished = @{$result->{finished}};
    my @maybe = @{$result->{maybe}};
    my $kills = $allow{kills} || 0;
    my $deadline = time + ($allow{seconds} || 15);
    my ($ids, @missing, @unsure);

    while (1) {
        $ids = $receiver->ids;
        @missing = grep { !$ids->{$_} } @finished;
        @unsure = grep { !$ids->{$_} } @maybe;
        last if !@missing && @unsure <= $kills || time > $deadline;
        sleep 0.05;
    }

    cmp_ok(scalar @finished, '>', 0, 'requests: ' . @finished . ' and '
        . @maybe);
    is(scalar @missing, 0, 'none is missing')
        or diag "first: @missing[0 .. ($#missing < 9 ? $#missing : 9)]";
    cmp_ok(scalar @unsure, '<=', $kills, 'none of the last ones, either');

    if ($allow{more}) {
        note 'more than once: ' . grep { $ids->{$_} > 1 } keys %$ids;
    } else {
        is(scalar(grep { $ids->{$_} > 1 } keys %$ids), 0,
            'none comes twice');
    }

    is_deeply([$receiver->torn], [], 'none is torn');
}

sub status {
    my ($nginx, $pipeline) = @_;
    my (undef, $body) = $nginx->get('/status');

    return if !$body;
    return decode_json($body)->{$pipeline || 'internal'};
}

# the status when nothing is in the queues any more, or the last one seen; |$of|
# is spans, or events

sub settled {
    my ($nginx, $pipeline, $of) = @_;
    my $queue = queue_of($of // 'spans');
    my $status;

    $nginx->wait_for(sub {
        $status = status($nginx, $pipeline);
        return $status && $status->{$queue} == 0;
    }, 30);

    return $status;
}

sub queue_of { $_[0] eq 'events' ? 'events_queue_events' : 'queue_spans' }

# recorded = exported + dropped, and each as expected where that is said:
# recorded, exported and the reasons of drops; other reasons have no drops. With
# of => 'events' it is those that are counted

sub balance {
    my ($nginx, %expected) = @_;
    my $of = delete $expected{of} // 'spans';
    my $status = settled($nginx, delete $expected{pipeline}, $of);
    my ($recorded, $exported, $dropped, $queue)
        = @$status{"${of}_recorded", "${of}_exported", "${of}_dropped",
                   queue_of($of)};
    my $sum = 0;

    $sum += $_ for values %$dropped;

    is($queue, 0, "the queues of $of are empty");
    is($recorded, $exported + $sum,
        "recorded $recorded = exported $exported + dropped $sum");

    for (qw(recorded exported)) {
        is($status->{"${of}_$_"}, $expected{$_}, $_)
            if defined $expected{$_};
    }

    is($dropped->{$_}, $expected{$_} // 0, "dropped: $_")
        for sort keys %$dropped;

    return $status;
}

# the configuration goes with its directory

END {
    my $status = $?;
    undef $directory;
    $? = $status;
}

1;

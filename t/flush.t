# What is queued when a worker leaves: a quit and a reload send it first, also
# of both hops and of all tenants, long before the interval is over.

use strict;
use warnings;

use Test::More;
use Time::HiRes qw(sleep time);

use Nginx;
use Receiver;

my $exporters = sub {
    my $dir = shift;

    return map { "trace_exporter $_->[0] { endpoint unix:$dir/otlp.sock;"
        . " interval 60s; $_->[1] }" }
        ['internal', ''], ['user', 'routing_header x-tenant;'];
};

# two hops in one nginx, with |$main| in the configuration

sub hops {
    my ($dir, $main) = @_;

    return Nginx->new(
        main => $main,
        http => join("\n", $exporters->($dir), <<"_EOC_"),
trace internal on;
trace_context internal propagate header=x-op-traceparent;
trace user \$arg_tenant;
trace_routing \$arg_tenant;
server { listen unix:$dir/inner.sock; trace_trusted internal unix:; return 204; }
_EOC_
        server => "location / { proxy_pass http://unix:$dir/inner.sock; }");
}

# how many internal spans have come, and of each tenant

sub arrived {
    my %of;

    $of{$_->[3]} += $_->[1] for $_[0]->requests;
    return join ', ', map { "$of{$_} '$_'" } sort keys %of;
}

# two hops, and between them an attempt
my $expected = "60 '-', 30 'a', 30 'b'";

for my $case (
    ['quit', 'worker_processes 1;', sub { defined $_[0]->quit }],
    ['quit of many workers', 'worker_processes 4;', sub { defined $_[0]->quit }],
    ['reload', 'worker_processes 2;', \&reload],
) {
    my ($name, $main, $end) = @$case;
    my $dir = File::Temp->newdir();
    chmod 0755, $dir;

    subtest $name => sub {
        my $receiver = Receiver->new(socket => "$dir/otlp.sock");
        my $nginx = hops($dir, $main)->start;

        for my $n (1 .. 10) {
            is(scalar $nginx->get("/?tenant=$_&n=$n"), 204, "tenant $_")
                for 'a', 'b';
        }

        is(arrived($receiver), '', 'nothing is sent before its time');

        my $start = time;
        ok($end->($nginx), 'ends');
        $receiver->wait_spans(80, 5);
        cmp_ok(time - $start, '<', 8, 'soon');
        is(arrived($receiver), $expected, 'all is sent');
        unlike($nginx->log, qr/\[(?:alert|crit|emerg|error)\]/, 'log');
    };
}

done_testing();


# true if all the old workers have gone, and the new ones serve

sub reload {
    my $nginx = shift;
    my @old = $nginx->workers;

    $nginx->signal('HUP');

    my $gone = 0;
    $gone += defined $nginx->gone($_, 10) for @old;

    return $gone == @old && $nginx->get('/') == 204;
}

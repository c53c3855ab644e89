package Spans;

# An OTLP receiver that keeps all of each span: "traceparent receive --json" in
# a process of its own, whose lines go to a file.
#
#   my $spans = Spans->new("$dir/otlp.sock");
#   $spans->all                       those that have come, decoded, in order
#   $spans->requests('user', $n)      the request spans of a pipeline, once
#                                     there are |$n|, or 10 seconds are over
#   $spans->stop; $spans->start       nothing of what has come is lost

use strict;
use warnings;

use JSON::XS;
use POSIX ();
use Time::HiRes qw(sleep time);

sub new {
    my ($class, $socket) = @_;

    return bless({ socket => $socket }, $class)->start;
}

sub start {
    my $self = shift;
    my $build = $ENV{TEST_BUILD} || 'build';

    $self->{pid} = fork();
    die "fork: $!" if !defined $self->{pid};

    if ($self->{pid} == 0) {
        open STDOUT, '>>', "$self->{socket}.jsonl" or POSIX::_exit(1);
        open STDERR, '>>', "$self->{socket}.log" or POSIX::_exit(1);
        exec "$build/traceparent", 'receive', '--json',
            "unix:$self->{socket}" or POSIX::_exit(1);
    }

    return $self;
}

sub stop {
    my $self = shift;
    my $pid = delete $self->{pid} or return;

    kill 'TERM', $pid;
    waitpid $pid, 0;
}

sub all {
    my $self = shift;

    open my $fh, '<:raw', "$self->{socket}.jsonl" or return;
    return map { decode_json($_) } grep { /\n\z/ } <$fh>;
}

sub requests {
    my ($self, $pipeline, $n) = @_;
    my $deadline = time + 10;
    my @spans;

    while (1) {
        @spans = grep {
            $_->{kind} eq 'SERVER' && (exists $_->{headers}{'x-tenant'}
                ? 'user' : 'internal') eq $pipeline } $self->all;
        last if @spans >= ($n // 0) || time > $deadline;
        sleep 0.05;
    }

    return @spans;
}

sub DESTROY {
    my $self = shift;
    my $status = $?;

    $self->stop;
    $? = $status;
}

1;

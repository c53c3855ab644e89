package Load;

# Clients that ask nginx for /r/1; /r/2; ... and know which of these requests
# must have left a span. They run in a process of their own.
#
#   my $load = Load->new(nginx => $nginx, requests => 1000);
#   my $result = $load->wait;        # until it has ended
#   my $result = $load->stop;        # ends it, and waits
#
#   requests      how many; without it, until stop
#   connections   how many requests at a time, 16
#   rate          requests a second, at most; without it, as fast as it goes
#   keepalive     0: a connection for each request, which nginx ends when it
#                 has done with it; not for where workers are killed
#   first         the first number, 1
#   path          instead of /r/%d; %d is the number
#   headers       a function that has the headers of a number
#
# A result is a hash:
#
#   finished   the numbers of the requests that nginx has done with, span and
#              all: their response has come and, since nginx reads the next
#              request of a connection when it has done with the one before,
#              that of the next request too, or the connection has outlived
#              the load
#   maybe      those whose response was the last of a connection that nginx
#              ended: the span is written after the response is sent, so it
#              is not there if the worker was killed in between
#   failed     how many requests got no response
#   slowest    seconds
#   seconds    how long all took

use strict;
use warnings;

use IO::Select;
use POSIX ();
use Storable qw(store retrieve);
use Time::HiRes qw(sleep time);

my $loads = 0;

sub new {
    my ($class, %conf) = @_;
    my $self = bless { connections => 16, keepalive => 1, first => 1,
                       path => '/r/%d;', headers => sub {}, %conf }, $class;

    $self->{file} = "$self->{nginx}{dir}/load." . ++$loads;

    $self->{pid} = fork();
    die "fork: $!" if !defined $self->{pid};

    if ($self->{pid} == 0) {
        $SIG{PIPE} = 'IGNORE';
        $SIG{TERM} = sub { $self->{stop} = 1 };
        eval { store($self->run, $self->{file}) };
        print STDERR $@ if $@;
        POSIX::_exit(0);
    }

    return $self;
}

sub wait {
    my $self = shift;

    waitpid $self->{pid}, 0;
    undef $self->{pid};

    return retrieve($self->{file});
}

sub stop {
    my $self = shift;

    kill 'TERM', $self->{pid};
    return $self->wait;
}

sub run {
    my $self = shift;
    my $start = time;

    $self->{next} = $self->{first};
    $self->{select} = IO::Select->new;
    $self->{slots} = {};
    $self->{result} = { finished => [], maybe => [], failed => 0,
                        slowest => 0 };

    my @free = map { {} } 1 .. $self->{connections};

    while (@free < $self->{connections} || !$self->over) {
        my $allowed = $self->{rate} ? (time - $start) * $self->{rate} : 1e15;

        while (@free && !$self->over
               && $self->{next} - $self->{first} < $allowed)
        {
            my $slot = shift @free;
            push @free, $slot if !$self->send($slot);
        }

        for my $socket ($self->{select}->can_read($self->{rate} ? 0.005 : 1)) {
            my $slot = $self->{slots}{$socket};
            push @free, $slot if $self->read($slot);
        }
    }

    push @{$self->{result}{finished}}, map { $_->{last} }
        grep { defined $_->{last} } @free;

    $self->{result}{seconds} = time - $start;
    return $self->{result};
}

sub over {
    my $self = shift;

    return $self->{stop} || defined $self->{requests}
        && $self->{next} >= $self->{first} + $self->{requests};
}

# false if there is no response to wait for

sub send {
    my ($self, $slot) = @_;

    if (!$slot->{socket}) {
        $slot->{socket} = $self->{nginx}->connect;

        if (!$slot->{socket}) {
            $self->{next}++;
            $self->{result}{failed}++;
            sleep 0.01;
            return 0;
        }

        $self->{slots}{$slot->{socket}} = $slot;
    }

    $slot->{number} = $self->{next}++;
    $slot->{sent} = time;
    $slot->{input} = '';

    my $path = sprintf $self->{path}, $slot->{number};
    my @headers = ('Host: t', $self->{headers}->($slot->{number}),
        $self->{keepalive} ? () : 'Connection: close');

    # if that is not all, nginx has closed, and we read the end
    syswrite $slot->{socket}, join "\r\n", "GET $path HTTP/1.1", @headers,
        '', '';

    $self->{select}->add($slot->{socket})
        if !$self->{select}->exists($slot->{socket});

    return 1;
}

# true if the slot is free: the response is there, or there will be none

sub read {
    my ($self, $slot) = @_;
    my $asked = defined $slot->{number};

    my $got = sysread $slot->{socket}, $slot->{input}, 65536,
        length $slot->{input};
    my ($head) = $slot->{input} =~ /\A(.*?)\r\n\r\n/s;

    if ($got) {
        return 0 if !defined $head || !$asked || !$self->{keepalive};

        $self->answered($slot);
        $self->end($slot) if $head =~ /^Connection: close\r?$/mi;
        return 1;
    }

    if ($asked) {
        $self->answered($slot) if defined $head;
        $self->{result}{failed}++ if !defined $head;
    }

    $self->end($slot);
    return $asked;
}

sub end {
    my ($self, $slot) = @_;

    $self->{select}->remove($slot->{socket});
    delete $self->{slots}{$slot->{socket}};
    close $slot->{socket};

    push @{$self->{result}{$self->{keepalive} ? 'maybe' : 'finished'}},
        $slot->{last} if defined $slot->{last};
    %$slot = ();
}

# responses have no body

sub answered {
    my ($self, $slot) = @_;
    my $result = $self->{result};
    my $time = time - $slot->{sent};

    die "response: $slot->{input}"
        if $slot->{input} !~ m{\AHTTP/1\.1 204 };

    $result->{slowest} = $time if $time > $result->{slowest};
    push @{$result->{finished}}, $slot->{last} if defined $slot->{last};
    $slot->{last} = $slot->{number};
    undef $slot->{number};
}

sub DESTROY {
    my $self = shift;
    my $status = $?;

    if ($self->{pid}) {
        kill 'KILL', $self->{pid};
        waitpid $self->{pid}, 0;
    }

    $? = $status;
}

1;

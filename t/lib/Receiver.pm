package Receiver;

# An OTLP receiver that behaves as badly as a test asks. It runs as a process
# of its own, on a Unix socket or on loopback, and writes a line for each
# request that it has read: its number, the spans in it, its bytes, the value
# of x-tenant; and one for each connection.
#
#   my $receiver = Receiver->new(socket => PATH, answer => sub {
#       my ($socket, $n, $request) = @_;     # $n counts from 1
#       ...                                  # write what you like
#       return 1;                            # or 0 to close
#   });
#
# Without a socket it listens on a free port of loopback, $receiver->{port},
# and needs a log => PATH. Of a request there are its head, its body, and as
# it came, maybe compressed, its raw body.
#
#   $receiver->requests; $receiver->spans; $receiver->stop

use strict;
use warnings;

use IO::Select;
use IO::Socket::INET;
use IO::Socket::UNIX;
use IO::Uncompress::Gunzip qw(gunzip);
use Time::HiRes qw(sleep time);

our $OK = "HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\n"
    . "Content-Length: 2\r\n\r\n\x0a\x00";

sub ok { my $socket = shift; print $socket $OK; return 1 }

sub new {
    my ($class, %conf) = @_;
    my $self = bless { answer => \&ok, %conf }, $class;

    $self->{log} = "$self->{socket}.log" if !$self->{log};
    open my $fh, '>>', $self->{log} or die $!;
    close $fh;

    return $self->start;
}

sub start {
    my $self = shift;
    my $listener = $self->listener;

    $self->{pid} = fork();
    die "fork: $!" if !defined $self->{pid};

    if ($self->{pid} == 0) {
        $SIG{PIPE} = 'IGNORE';
        $SIG{TERM} = 'DEFAULT';
        eval { $self->serve($listener) };
        print STDERR $@ if $@;
        require POSIX;
        POSIX::_exit(0);
    }

    close $listener;
    return $self;
}

sub listener {
    my $self = shift;
    my $listener;

    if (!defined $self->{socket}) {
        $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1',
            Listen => 512) or die "no port: $!";
        $self->{port} = $listener->sockport;
        return $listener;
    }

    unlink $self->{socket};
    $listener = IO::Socket::UNIX->new(Local => $self->{socket}, Listen => 512)
        or die "$self->{socket}: $!";
    chmod 0666, $self->{socket};

    return $listener;
}

sub serve {
    my ($self, $listener) = @_;
    my $select = IO::Select->new($listener);
    my (%input, $n);

    open my $log, '>>', $self->{log} or die $!;
    $log->autoflush(1);

    while (1) {
        for my $socket ($select->can_read) {
            if ($socket == $listener) {
                $select->add(scalar $listener->accept);
                print $log "connection\n";
                next;
            }

            my $got = sysread $socket, $input{$socket}, 65536,
                length($input{$socket} // '');

            if (!$got) {
                $select->remove($socket);
                delete $input{$socket};
                close $socket;
                next;
            }

            while (my $request = request(\$input{$socket})) {
                print $log join(' ', ++$n, count_spans($request->{body}),
                    length $request->{body}, $request->{tenant} // '-'), "\n";

                $socket->autoflush(1);

                if (!$self->{answer}->($socket, $n, $request)) {
                    $select->remove($socket);
                    delete $input{$socket};
                    close $socket;
                    last;
                }
            }
        }
    }
}

# takes one whole request off the input

sub request {
    my $input = shift;

    return if !defined $$input || $$input !~ /\A(.*?)\r\n\r\n/s;

    my $head = $1;
    my ($length) = $head =~ /^Content-Length: (\d+)\r?$/m;
    my $start = length($head) + 4;

    return if length($$input) < $start + $length;

    my ($tenant) = $head =~ /^x-tenant: ([^\r]*)/mi;
    my $raw = substr $$input, $start, $length;
    my $body = $raw;
    substr $$input, 0, $start + $length, '';

    if ($head =~ /^Content-Encoding: gzip\r?$/mi) {
        gunzip(\$raw, \$body) or die 'no gzip';
    }

    return { head => $head, body => $body, raw => $raw, tenant => $tenant };
}

# ExportTraceServiceRequest 1 -> ResourceSpans 2 -> ScopeSpans 2

sub count_spans {
    my $n = 0;

    for my $resource_spans (fields($_[0], 1)) {
        for my $scope_spans (fields($resource_spans, 2)) {
            $n += fields($scope_spans, 2);
        }
    }

    return $n;
}

# the values of a length-delimited field, of a message that has no others

sub fields {
    my ($message, $field) = @_;
    my ($pos, @values) = (0);

    while ($pos < length $message) {
        my $tag = varint($message, \$pos);
        die "wire type of $tag" if ($tag & 7) != 2;
        my $length = varint($message, \$pos);
        die 'length' if $pos + $length > length $message;
        push @values, substr $message, $pos, $length if $tag >> 3 == $field;
        $pos += $length;
    }

    return @values;
}

sub varint {
    my ($message, $pos) = @_;
    my ($value, $shift) = (0, 0);

    while (1) {
        my $byte = ord substr $message, $$pos++, 1;
        $value |= ($byte & 0x7f) << $shift;
        return $value if $byte < 0x80;
        $shift += 7;
    }
}

# the lines of the log: [number, spans, bytes, tenant]

sub requests {
    my $self = shift;

    return map { [split ' '] } grep { /^\d/ } $self->lines;
}

sub connections {
    my $self = shift;

    return scalar grep { /^connection/ } $self->lines;
}

sub lines {
    my $self = shift;

    open my $fh, '<', $self->{log} or die $!;
    return grep { /\n\z/ } <$fh>;
}

sub spans {
    my $self = shift;
    my $n = 0;

    $n += $_->[1] for $self->requests;
    return $n;
}

sub wait_spans {
    my ($self, $n, $seconds) = @_;
    my $deadline = time + ($seconds || 10);

    sleep 0.02 while $self->spans < $n && time < $deadline;
    return $self->spans;
}

sub stop {
    my ($self, $signal) = @_;

    return if !$self->{pid};
    kill $signal || 'KILL', $self->{pid};
    waitpid $self->{pid}, 0;
    undef $self->{pid};
}

sub DESTROY {
    my $self = shift;
    my $status = $?;

    $self->stop;
    $? = $status;
}

1;

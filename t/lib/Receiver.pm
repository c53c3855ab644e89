package Receiver;

# An OTLP receiver that behaves as badly as a test asks. It runs as a process
# of its own, on a Unix socket or on loopback, and keeps a log of what it gets.
#
#   my $receiver = Receiver->new(socket => PATH, answer => sub {
#       my ($socket, $n, $request) = @_;     # $n counts from 1
#       ...                                  # write what you like
#       return 1;                            # or 0 to close
#   });
#
#   socket   without one it listens on a free port of |address|, 127.0.0.1 by
#            itself, which is in $receiver->{port}; that needs a log => PATH
#   delay    seconds before |answer| is called; other connections go on
#   ids      the numbers in the spans, as in /r/17; are kept: see ids()
#   whole    each span is looked through, and one that is torn is found
#   logs     the path of span events, /v1/logs by itself; each request to it is
#            kept, see events()
#
# Of a request there are its head, its path, its body, and as it came, maybe
# compressed, its raw body.
#
#   $receiver->batches        what it has got: a hash for each request, with
#       n, spans, bytes, raw (bytes as they came), tenant, connection, time,
#       encoding, path, ids, and answered, the time when its answer had left,
#       status, which it had; if it was stopped meanwhile, it has answering
#       alone
#   $receiver->events         those of them that are to the path of events, with
#       records, see Events.pm
#   $receiver->requests       the same as [n, spans, bytes, tenant]
#   $receiver->torn           what was no whole request of whole spans
#   $receiver->spans; $receiver->connections; $receiver->stop

use strict;
use warnings;

use IO::Select;
use IO::Socket::IP;
use IO::Socket::UNIX;
use IO::Uncompress::Gunzip qw(gunzip);
use Socket qw(SOMAXCONN);
use Time::HiRes qw(sleep time);

# of the answer that was given last
my $status;

our $OK = "HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\n"
    . "Content-Length: 2\r\n\r\n\x0a\x00";

sub ok { my $socket = shift; print $socket $OK; $status = 200; return 1 }

# an answer of another status, with more header lines

sub status {
    my ($socket, $code, @headers) = @_;

    print $socket join "\r\n", "HTTP/1.1 $code Status", 'Content-Length: 0',
        @headers, '', '';
    $status = $code;
    return 1;
}

sub new {
    my ($class, %conf) = @_;
    my $self = bless { answer => \&ok, logs => '/v1/logs', %conf, read => 0,
                       batches => [], torn => [], connections => 0 }, $class;

    $self->{log} = "$self->{socket}.log" if !$self->{log};

    for my $file ($self->{log}, "$self->{log}.events") {
        open my $fh, '>', $file or die $!;
        close $fh;
    }

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
        $listener = IO::Socket::IP->new(Listen => SOMAXCONN, ReuseAddr => 1,
            LocalHost => $self->{address} || '127.0.0.1',
            LocalPort => $self->{port} || 0) or die "no port: $@";
        $self->{port} = $listener->sockport;
        return $listener;
    }

    unlink $self->{socket};
    $listener = IO::Socket::UNIX->new(Local => $self->{socket},
        Listen => SOMAXCONN) or die "$self->{socket}: $!";
    chmod 0666, $self->{socket};

    return $listener;
}

sub serve {
    my ($self, $listener) = @_;
    my $select = IO::Select->new($listener);
    my $connections = 0;
    my (%peer, @due, $n);

    open my $log, '>>', $self->{log} or die $!;
    $log->autoflush(1);
    print $log "start\n";

    my $close = sub {
        my $socket = shift;

        $select->remove($socket);
        delete $peer{$socket};
        close $socket;
    };

    my $answer = sub {
        my ($socket, $n, $request) = @_;

        return if !$peer{$socket};
        print $log "answering $n\n";
        $status = '-';
        my $more = $self->{answer}->($socket, $n, $request);
        print $log "answered $n ", time, " $status\n";
        $close->($socket) if !$more;
    };

    while (1) {
        my $wait = @due ? $due[0]{time} - time : undef;
        my @ready = $select->can_read(defined $wait && $wait < 0 ? 0 : $wait);

        while (@due && $due[0]{time} <= time) {
            $answer->(@{(shift @due)->{answer}});
        }

        for my $socket (@ready) {
            if ($socket == $listener) {
                my $accepted = $listener->accept or next;
                $accepted->autoflush(1);
                $select->add($accepted);
                $peer{$accepted} = { number => ++$connections, input => '' };
                print $log "connection $connections\n";
                next;
            }

            my $peer = $peer{$socket} or next;

            if (!sysread $socket, $peer->{input}, 262144,
                length $peer->{input})
            {
                $close->($socket);
                next;
            }

            while ($peer{$socket} && (my $request = request(\$peer->{input})))
            {
                print $log $self->note(++$n, $request, $peer->{number});

                if ($self->{delay}) {
                    push @due, { time => time + $self->{delay},
                                 answer => [$socket, $n, $request] };
                } else {
                    $answer->($socket, $n, $request);
                }
            }
        }
    }
}

# takes one whole request off the input

sub request {
    my $input = shift;
    my $end = index $$input, "\r\n\r\n";

    return if $end < 0;

    my $head = substr $$input, 0, $end;
    my ($length) = $head =~ /^Content-Length: (\d+)\r?$/m;
    my $start = $end + 4;

    return if length($$input) < $start + $length;

    my ($path) = $head =~ /\A\S+ (\S+)/;
    my ($tenant) = $head =~ /^x-tenant: ([^\r]*)/mi;
    my ($encoding) = $head =~ /^Content-Encoding: ([^\r]*)/mi;
    my $raw = substr $$input, $start, $length;
    my $body = $raw;
    substr $$input, 0, $start + $length, '';

    if (($encoding // '') eq 'gzip') {
        gunzip(\$raw, \$body) or die 'no gzip';
    }

    return { head => $head, body => $body, raw => $raw, tenant => $tenant,
             path => $path, encoding => $encoding };
}

# the lines of a request in the log

sub note {
    my ($self, $n, $request, $connection) = @_;
    my $body = $request->{body};
    my $events = $request->{path} eq $self->{logs};
    my $spans = $events ? 0 : eval { count_spans($body, $self->{whole}) };
    my $torn = '';
    my $ids = '';

    if (!defined $spans) {
        $torn = "torn $n $@";
        $torn =~ s/\n?\z/\n/;
        $spans = 0;
    }

    if ($self->{ids}) {
        $ids = join ',', $body =~ m{/r/(\d+);}g;
    }

    return $torn . join(' ', 'request', $n, $spans, length $body,
        length $request->{raw}, $request->{tenant} // '-', $connection, time,
        $request->{encoding} // '-', $request->{path},
        $events ? $self->keep_events($body) : '-', $ids) . "\n";
}

# for the test to decode them; returns where. We may be stopped behind that

sub keep_events {
    my ($self, $body) = @_;

    open my $fh, '>>:raw', "$self->{log}.events" or die $!;
    my $start = -s $fh;
    print $fh $body;
    return $start;
}

sub events {
    my $self = shift;
    my @batches = grep { $_->{path} eq $self->{logs} } $self->batches;

    open my $fh, '<:raw', "$self->{log}.events" or die $!;

    for my $batch (@batches) {
        seek $fh, $batch->{kept}, 0;
        read $fh, my $body, $batch->{bytes};
        $batch->{records} = [Events::decode($body)];
        $_->{headers} = { $batch->{tenant} eq '-' ? ()
            : ('x-tenant', $batch->{tenant}) } for @{$batch->{records}};
    }

    return @batches;
}

# ExportTraceServiceRequest 1 -> ResourceSpans 2 -> ScopeSpans 2

sub count_spans {
    my ($body, $whole) = @_;
    my $n = 0;

    for my $resource_spans (fields($body, 1)) {
        for my $scope_spans (fields($resource_spans, 2)) {
            my @spans = fields($scope_spans, 2);

            $n += @spans;

            if ($whole) {
                check_span($_) for @spans;
            }
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

# dies if it has not all that a span of ours has, or more, or half of it

sub check_span {
    my (%length, %seen);

    for (message(shift)) {
        my ($field, $value, $length) = @$_;

        $length{$field} = $length;
        $seen{$field}++;
    }

    # trace_id, span_id, name, kind, start, end
    for ([1, 16], [2, 8], [5], [6], [7, 8], [8, 8]) {
        my ($field, $length) = @$_;

        die "field $field of a span" if ($seen{$field} // 0) != 1
            || defined $length && $length{$field} != $length;
    }
}

# the fields of a message: number, value, and length of the value

sub message {
    my $message = shift;
    my ($pos, @fields) = (0);

    while ($pos < length $message) {
        my $tag = varint($message, \$pos);
        my $type = $tag & 7;
        my $value = $type == 0 || $type == 2 ? varint($message, \$pos) : undef;
        my $length = $type == 0 ? 0 : $type == 1 ? 8 : $type == 5 ? 4
            : $type == 2 ? $value : die "wire type $type in a message";

        die 'message of more than its length'
            if $pos + $length > length $message;
        $value = substr $message, $pos, $length if $type;
        $value = unpack $type == 1 ? 'Q' : 'L', $value if $type & 1;
        push @fields, [$tag >> 3, $value, $length];
        $pos += $length;
    }

    return @fields;
}

sub varint {
    my ($message, $pos) = @_;
    my ($value, $shift) = (0, 0);

    while (1) {
        die 'end' if $$pos >= length $message;
        my $byte = ord substr $message, $$pos++, 1;
        $value |= ($byte & 0x7f) << $shift;
        return $value if $byte < 0x80;
        $shift += 7;
    }
}

# what the log has more than last time

sub update {
    my $self = shift;

    open my $fh, '<:raw', $self->{log} or die $!;
    seek $fh, $self->{read}, 0;

    while (my $line = <$fh>) {
        last if $line !~ /\n\z/;
        $self->{read} += length $line;
        chomp $line;

        my ($what, @fields) = split / /, $line, 12;

        if ($what eq 'start') {
            $self->{open} = {};

        } elsif ($what eq 'connection') {
            $self->{connections}++;

        } elsif ($what eq 'torn') {
            push @{$self->{torn}}, $line;

        } elsif ($what eq 'answering') {
            $self->{open}{$fields[0]}{answering} = 1;

        } elsif ($what eq 'answered') {
            @{$self->{open}{$fields[0]}}{qw(answered status)} = @fields[1, 2];

        } else {
            my %batch;

            @batch{qw(n spans bytes raw tenant connection time encoding path
                kept ids)}
                = @fields;
            push @{$self->{batches}}, $self->{open}{$batch{n}} = \%batch;
        }
    }
}

sub batches {
    my $self = shift;

    $self->update;
    return @{$self->{batches}};
}

sub requests {
    my $self = shift;

    return map { [@$_{qw(n spans bytes tenant)}] } $self->batches;
}

sub connections {
    my $self = shift;

    $self->update;
    return $self->{connections};
}

sub torn {
    my $self = shift;

    $self->update;
    return @{$self->{torn}};
}

sub spans {
    my $self = shift;
    my $n = 0;

    $n += $_->{spans} for $self->batches;
    return $n;
}

# how often each of the numbers has come

sub ids {
    my $self = shift;
    my %ids;

    for my $batch ($self->batches) {
        $ids{$_}++ for split /,/, $batch->{ids};
    }

    return \%ids;
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

# neither reads nor answers, and connections wait

sub freeze { kill 'STOP', $_[0]{pid} }
sub thaw { kill 'CONT', $_[0]{pid} }

sub DESTROY {
    my $self = shift;
    my $status = $?;

    $self->stop;
    $? = $status;
}

1;

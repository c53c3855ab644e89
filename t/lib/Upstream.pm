package Upstream;

# What stands behind nginx in a test: a server on a Unix socket that reads
# requests of one protocol, notes each as it came, byte for byte, and answers.
# It runs as a process of its own, each connection in another.
#
#   my $upstream = Upstream->new(protocol => 'http', socket => PATH);
#
#   $upstream->requests($n)   those since the last call, once there are |$n|
#   Upstream->seen            those of all servers, since its own last call
#   $upstream->stop
#
# Protocols are http, fastcgi, scgi and uwsgi. A request is a hash:
#
#   line       the request line, or method and URI of the parameters
#   headers    [[name, value], ...]; of http all that is between the colon and
#              CR LF, without one leading space; of the others, parameters
#
# An http server answers with the request's head, the others with "ok\n"; a
# query decides otherwise:
#
#   ?status=N       answers with this status
#   ?redirect=URI   answers with X-Accel-Redirect
#   ?body=TEXT      answers with this as text/html, %XX decoded

use strict;
use warnings;

use IO::Select;
use IO::Socket::UNIX;
use JSON::PP;
use Time::HiRes qw(sleep time);

my @servers;

sub new {
    my ($class, %conf) = @_;
    my $self = bless { read => 0, seen => 0, log => "$conf{socket}.log",
                       %conf }, $class;

    open my $fh, '>', $self->{log} or die "$self->{log}: $!";
    close $fh;

    my $listener = IO::Socket::UNIX->new(Local => $self->{socket},
        Listen => 128) or die "$self->{socket}: $!";
    chmod 0777, $self->{socket};

    # readable when nobody is left who has the other end: the test is gone,
    # whichever way

    pipe my $gone, $self->{alive} or die "pipe: $!";

    $self->{pid} = fork();
    die "fork: $!" if !defined $self->{pid};

    if ($self->{pid} == 0) {
        $SIG{TERM} = 'DEFAULT';
        close $self->{alive};
        $self->serve($listener, $gone);
        leave();
    }

    push @servers, $self;

    return $self;
}

# without the END blocks of the test

sub leave {
    require POSIX;
    POSIX::_exit(0);
}

sub stop {
    my $self = shift;
    my $pid = delete $self->{pid} or return;

    kill 'TERM', $pid;
    waitpid $pid, 0;
    unlink $self->{socket};
}

sub requests {
    my ($self, $n, $seconds) = @_;
    my $deadline = time + ($seconds || 5);
    my @lines;

    while (1) {
        @lines = $self->lines('read');
        last if @lines >= ($n || 0) || time > $deadline;
        sleep 0.02;
    }

    return $self->decode('read', @lines);
}

sub seen {
    return map { $_->decode('seen', $_->lines('seen')) } @servers;
}

# |$reader| has a position of its own

sub lines {
    my ($self, $reader) = @_;

    open my $fh, '<:raw', $self->{log} or die "$self->{log}: $!";
    seek $fh, $self->{$reader}, 0;

    return grep { /\n\z/ } <$fh>;
}

sub decode {
    my ($self, $reader, @lines) = @_;

    $self->{$reader} += length for @lines;

    return map { JSON::PP->new->latin1->decode($_) } @lines;
}

sub serve {
    my ($self, $listener, $gone) = @_;
    my $select = IO::Select->new($listener, $gone);

    local $SIG{CHLD} = 'IGNORE';

    while (1) {
        my @ready = $select->can_read;

        last if grep { $_ == $gone } @ready;
        my $socket = @ready && $listener->accept or next;
        my $pid = fork();

        if (defined $pid && $pid == 0) {
            my $talk = $self->can($self->{protocol});

            $SIG{PIPE} = 'IGNORE';
            close $listener;
            binmode $socket;
            eval { 1 while $talk->($self, $socket) };
            leave();
        }
    }
}

# one write of one line, so that processes do not mix theirs

sub note {
    my ($self, %request) = @_;

    open my $fh, '>>:raw', $self->{log} or die $!;
    syswrite $fh, JSON::PP->new->latin1->canonical->encode(\%request) . "\n";
}

sub take {
    my ($socket, $n) = @_;
    my $bytes = '';

    while (length $bytes < $n) {
        read $socket, $bytes, $n - length $bytes, length $bytes or die 'end';
    }

    return $bytes;
}

# the header and body that a query asks for

sub answer {
    my ($line, $default) = @_;
    my %query = $line =~ /[?&](status|redirect|body)=([^& ]*)/g;
    my ($header, $body) = ("Content-Type: text/plain\r\n", $default);

    $header = "X-Accel-Redirect: $query{redirect}\r\n" if $query{redirect};

    if (defined $query{body}) {
        $header = "Content-Type: text/html\r\n";
        $body = $query{body};
        $body =~ s/%([0-9a-fA-F]{2})/chr hex $1/ge;
    }

    return ($query{status} || 200, $header, $body);
}

sub http {
    my ($self, $socket) = @_;
    my $head = '';

    while ($head !~ /\r\n\r\n\z/) {
        my $line = <$socket>;
        return 0 if !defined $line;
        $head .= $line;
        last if $head =~ /\A\S+ \S+\r\n\z/;     # HTTP/0.9
    }

    my ($line, @lines) = split /\r\n/, $head;
    my @headers = map { [/\A([^:]*): ?(.*)\z/s] } @lines;
    my ($length) = $head =~ /^Content-Length: (\d+)\r$/im;

    take($socket, $length) if $length;
    $self->note(line => $line, headers => \@headers);

    my ($status, $header, $body) = answer($line, $head);
    my $keep = $line =~ m{ HTTP/1\.1\z} && $head !~ /^Connection: close\r$/im;

    $body = '' if $status == 204;
    print $socket "HTTP/1.1 $status Status\r\n$header"
        . 'Connection: ' . ($keep ? 'keep-alive' : 'close') . "\r\n"
        . "Content-Length: " . length($body) . "\r\n\r\n"
        . ($line =~ /\AHEAD / ? '' : $body);
    $socket->flush;

    return $keep;
}

# parameters in the order in which they came

sub note_params {
    my ($self, @params) = @_;
    my %first;

    $first{$_->[0]} //= $_->[1] for @params;

    my $line = ($first{REQUEST_METHOD} // '') . ' '
        . ($first{REQUEST_URI} // '');

    $self->note(line => $line, headers => \@params);

    return $line;
}

sub cgi_answer {
    my ($line) = @_;
    my ($status, $header, $body) = answer($line, "ok\n");

    return "Status: $status Status\r\n$header\r\n$body";
}

sub fastcgi {
    my ($self, $socket) = @_;
    my ($id, $params) = (0, '');

    while (1) {
        my ($type, $length, $padding);

        (undef, $type, $id, $length, $padding, undef)
            = unpack 'CCnnCC', take($socket, 8);
        my $content = take($socket, $length);
        take($socket, $padding);

        $params .= $content if $type == 4;      # FCGI_PARAMS
        last if $type == 5 && $length == 0;     # the end of FCGI_STDIN
    }

    my @params;

    while (length $params) {
        my @lengths = map { fastcgi_length(\$params) } 1 .. 2;
        push @params, [map { substr $params, 0, $_, '' } @lengths];
    }

    my $stdout = cgi_answer($self->note_params(@params));

    # FCGI_STDOUT, its end, FCGI_END_REQUEST
    print $socket pack('CCnnCC', 1, 6, $id, length $stdout, 0, 0) . $stdout
        . pack('CCnnCC', 1, 6, $id, 0, 0, 0)
        . pack('CCnnCCNCx3', 1, 3, $id, 8, 0, 0, 0, 0);
    $socket->flush;

    return 0;
}

sub fastcgi_length {
    my $bytes = shift;
    my $length = unpack 'C', $$bytes;

    if ($length < 128) {
        substr $$bytes, 0, 1, '';
        return $length;
    }

    return unpack('N', substr $$bytes, 0, 4, '') & 0x7fffffff;
}

sub scgi {
    my ($self, $socket) = @_;
    my $length = '';

    while ($length !~ /:\z/) {
        $length .= take($socket, 1);
    }

    chop $length;
    my @fields = split /\0/, take($socket, $length), -1;
    take($socket, 1);                           # the netstring's comma
    pop @fields;

    my @params;
    push @params, [splice @fields, 0, 2] while @fields;

    print $socket cgi_answer($self->note_params(@params));
    $socket->flush;

    return 0;
}

sub uwsgi {
    my ($self, $socket) = @_;
    my (undef, $length) = unpack 'Cv', take($socket, 4);
    my $vars = take($socket, $length);
    my @params;

    my @fields = unpack '(v/a)*', $vars;
    push @params, [splice @fields, 0, 2] while @fields;

    my $answer = cgi_answer($self->note_params(@params));

    # a status line, as nginx expects it of uwsgi as well
    $answer =~ s{\AStatus:}{HTTP/1.1};
    print $socket $answer;
    $socket->flush;

    return 0;
}

1;

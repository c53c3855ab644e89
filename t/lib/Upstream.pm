package Upstream;

# What stands behind nginx in a test: a server on a Unix socket that reads
# requests of one protocol, notes each as it came, byte for byte, and answers.
# It runs as a process of its own, each connection in another.
#
#   my $upstream = Upstream->new(protocol => 'http', socket => PATH);
#
#   ports => N                listens on so many ports of loopback as well,
#                             which are in @{$upstream->{ports}}
#   $upstream->requests($n)   those since the last call, once there are |$n|
#   Upstream->seen            those of all servers, since its own last call
#   $upstream->stop
#
#   unused_port()             a port of loopback that nothing listens on
#   full_port()               one where no connection is accepted, nor refused
#   silent_port()             one where nobody reads what is sent
#
# Protocols are http, fastcgi, scgi and uwsgi; and grpc and memcached, whose
# server is another program, which knows nothing of what follows. What memcached
# gets is not noted. A request is a hash:
#
#   line       the request line, or method and URI of the parameters
#   headers    [[name, value], ...]; of http all that is between the colon and
#              CR LF, without one leading space; of the others, parameters
#   body       the length of its body
#
# An http server answers with the request line, the others with "ok\n"; a
# query decides otherwise:
#
#   ?redirect=URI   answers with X-Accel-Redirect
#   ?body=TEXT      answers with this as text/html, %XX decoded
#   ?size=N         answers with so many bytes
#   ?chunked=1      in chunks
#   ?last=SIZE      the last of which has this size, as it stands
#   ?eof=1          up to the end of the connection
#   ?age=N          with a Cache-Control for so many seconds
#   ?etag=TEXT      with this ETag, or with 304 to who has it
#   ?delay=N        waits N seconds before the answer
#   ?pause=N        and between its header and its body
#   ?upgrade=1      answers 101, and then sends back what comes
#   ?status=N       answers with this status
#   ?try=A,B,...    the first request with this line is answered by A, the next
#                   one by B, the last word is for all that follow
#
# Each of these is a status, or one of
#
#   ok       200
#   close    the connection is closed without an answer
#   reset    it is reset
#   half     closed in the middle of the header
#   cut      closed in the middle of the body
#   break    reset there
#   garbage  what is sent is no valid header
#   hang     there is no answer
#   stall    there is no body

use strict;
use warnings;

use Fcntl qw(:flock);
use IO::Select;
use IO::Socket::INET;
use IO::Socket::UNIX;
use JSON::PP;
use Socket qw(SOL_SOCKET SO_LINGER);
use Time::HiRes qw(sleep time);

my @servers;

# what must stay open as long as the test runs
my @held;

sub new {
    my ($class, %conf) = @_;
    my $self = bless { read => 0, seen => 0, log => "$conf{socket}.log",
                       %conf }, $class;

    open my $fh, '>', $self->{log} or die "$self->{log}: $!";
    close $fh;

    my $program = $self->can("run_$self->{protocol}");
    my @listeners = $program ? () : $self->listeners;

    # readable when nobody is left who has the other end: the test is gone,
    # whichever way

    pipe my $gone, $self->{alive} or die "pipe: $!";

    $self->{pid} = fork();
    die "fork: $!" if !defined $self->{pid};

    if ($self->{pid} == 0) {
        $SIG{TERM} = 'DEFAULT';
        close $self->{alive};
        $program ? $self->$program($gone) : $self->serve($gone, @listeners);
        leave();
    }

    push @servers, $self;
    $self->wait_for_program if $program;

    return $self;
}

sub listeners {
    my $self = shift;
    my @listeners = IO::Socket::UNIX->new(Local => $self->{socket},
        Listen => 128) or die "$self->{socket}: $!";

    chmod 0777, $self->{socket};

    push @listeners, map { on_port(Listen => 128) } 1 .. $self->{ports} // 0;
    $self->{ports} = [map { $_->sockport } @listeners[1 .. $#listeners]];

    return @listeners;
}

# a socket on a free port below those that the kernel gives to clients

sub on_port {
    for (1 .. 100) {
        my $socket = IO::Socket::INET->new(LocalAddr => '127.0.0.1',
            LocalPort => 10000 + int rand 20000, @_);

        return $socket if $socket;
    }

    die "no port: $@";
}

sub unused_port {
    push @held, on_port(Proto => 'tcp');
    return $held[-1]->sockport;
}

sub silent_port {
    push @held, on_port(Listen => 128);
    return $held[-1]->sockport;
}

# the kernel drops what comes when the queue is full, which takes one more than
# it says

sub full_port {
    my $listener = on_port(Listen => 1);

    push @held, $listener, map {
        IO::Socket::INET->new(PeerAddr => '127.0.0.1', Blocking => 0,
            PeerPort => $listener->sockport) } 1 .. 2;

    return $listener->sockport;
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

# the tries are counted anew, too

sub seen {
    unlink map { "$_->{socket}.tries" } @servers;

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
    my ($self, $gone, @listeners) = @_;
    my $select = IO::Select->new($gone, @listeners);

    local $SIG{CHLD} = 'IGNORE';
    $self->{gone} = $gone;

    while (1) {
        my @ready = $select->can_read;

        last if grep { $_ == $gone } @ready;

        for my $listener (@ready) {
            my $socket = $listener->accept or next;
            my $pid = fork();

            if (defined $pid && $pid == 0) {
                $SIG{PIPE} = 'IGNORE';
                close $_ for @listeners;
                binmode $socket;
                eval { 1 while $self->talk($socket) };
                leave();
            }
        }
    }
}

# true if the connection is kept

sub talk {
    my ($self, $socket) = @_;
    my $protocol = $self->{protocol};
    my $request = $self->can("${protocol}_request")->($socket) or return 0;

    $self->note(map { $_ => $request->{$_} } qw(line headers body));

    my $answer = answer($request, $self->act($request->{line}));

    $self->wait_on($socket, $answer->{delay});
    return upgraded($socket) if $answer->{upgrade};
    $self->can("${protocol}_frame")->($request, $answer);

    return $self->give($socket, $answer) && $request->{keep};
}

# waits |$seconds|, or for good, unless the peer leaves

sub wait_on {
    my ($self, $socket, $seconds) = @_;

    return if defined $seconds && !$seconds;
    die 'end' if IO::Select->new($socket, $self->{gone})->can_read($seconds);
}

# true if all was sent

sub give {
    my ($self, $socket, $answer) = @_;
    my ($act, $header, $body) = @$answer{qw(act header body)};
    my $how = $act =~ /\A(half|cut|break|stall|garbage)\z/ ? $act : 'whole';

    $self->wait_on($socket) if $act eq 'hang';
    return if $act eq 'close';
    return reset_connection($socket) if $act eq 'reset';

    $header = substr $header, 0, 12 if $how eq 'half';
    $header = "HTTP/1.1 200 OK\r\n\0\1: what\r\n\r\n" if $how eq 'garbage';
    print $socket $header;
    $socket->flush;
    return if $how eq 'half' || $how eq 'garbage';

    $self->wait_on($socket) if $how eq 'stall';
    $self->wait_on($socket, $answer->{pause});

    $body = substr $body, 0, length($body) / 2 if $how ne 'whole';
    print $socket $body;
    $socket->flush;

    if ($how eq 'break') {
        sleep 0.05;             # or the peer may lose what was sent
        reset_connection($socket);
    }

    return $how eq 'whole';
}

sub reset_connection {
    my $socket = shift;

    setsockopt $socket, SOL_SOCKET, SO_LINGER, pack 'ii', 1, 0;
    close $socket;
    return 0;
}

# like a WebSocket without frames

sub upgraded {
    my $socket = shift;

    print $socket "HTTP/1.1 101 Switching\r\nConnection: upgrade\r\n"
        . "Upgrade: echo\r\n\r\n";
    $socket->flush;

    while ($socket->sysread(my $bytes, 65536)) {
        $socket->syswrite($bytes);
    }

    return 0;
}

# what this try of a request is to get

sub act {
    my ($self, $line) = @_;
    my ($tries) = $line =~ /[?&]try=([^& ]*)/ or return;
    my @tries = split /,/, $tries;

    open my $fh, '+>>', "$self->{socket}.tries" or die "tries: $!";
    flock $fh, LOCK_EX;
    seek $fh, 0, 0;
    my $n = grep { $_ eq "$line\n" } <$fh>;
    print $fh "$line\n";
    close $fh;

    return $tries[$n] // $tries[-1];
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

# what a query asks for: status, header lines and body

sub answer {
    my ($request, $act) = @_;
    my %query = map { /\A(\w+)=(.*)\z/ } split /&/,
        $request->{line} =~ /\?(\S*)/ ? $1 : '';
    my ($status) = ($act // '') =~ /\A(\d+)\z/;
    my @lines = 'Content-Type: text/plain';
    my $body = $request->{default};

    if (defined $query{body}) {
        @lines = 'Content-Type: text/html';
        $body = $query{body};
        $body =~ s/%([0-9a-fA-F]{2})/chr hex $1/ge;
    }

    $body = 'x' x $query{size} if $query{size};
    push @lines, "X-Accel-Redirect: $query{redirect}" if $query{redirect};
    push @lines, "Cache-Control: max-age=$query{age}" if defined $query{age};

    if (defined $query{etag}) {
        my ($had) = map { $_->[1] } grep { $_->[0] =~ /\bIf.None.Match\z/i }
            @{$request->{headers}};

        push @lines, "ETag: \"$query{etag}\"";
        $status //= 304 if ($had // '') eq "\"$query{etag}\"";
    }

    $status //= $query{status} // 200;
    $body = '' if $status == 204 || $status == 304;

    return {
        act => $act // 'ok', status => $status, lines => \@lines,
        body => $body, delay => $query{delay} // 0,
        pause => $query{pause} // 0, chunked => $query{chunked},
        last => $query{last} // 0, eof => $query{eof},
        upgrade => $query{upgrade},
    };
}

sub http_request {
    my $socket = shift;
    my $head = '';

    while ($head !~ /\r\n\r\n\z/) {
        my $line = <$socket>;
        return if !defined $line;
        $head .= $line;
        last if $head =~ /\A\S+ \S+\r\n\z/;     # HTTP/0.9
    }

    my ($line, @lines) = split /\r\n/, $head;

    return {
        line => $line, default => "$line\n", body => http_body($socket, $head),
        headers => [map { [/\A([^:]*): ?(.*)\z/s] } @lines],
        keep => $line =~ m{ HTTP/1\.1\z}
            && $head !~ /^Connection: close\r$/im,
    };
}

# its length

sub http_body {
    my ($socket, $head) = @_;
    my $n = 0;

    if ($head =~ /^Content-Length: (\d+)\r$/im) {
        return length take($socket, $1);
    }

    return 0 if $head !~ /^Transfer-Encoding: chunked\r$/im;

    while ((my $size = hex <$socket>) > 0) {
        $n += length take($socket, $size);
        take($socket, 2);
    }

    take($socket, 2);
    return $n;
}

sub http_frame {
    my ($request, $answer) = @_;
    my $body = $request->{line} =~ /\AHEAD / ? '' : $answer->{body};
    my @length = $answer->{status} == 304 || $answer->{eof} ? ()
        : $answer->{chunked} ? 'Transfer-Encoding: chunked'
        : 'Content-Length: ' . length $answer->{body};

    $request->{keep} &&= !$answer->{eof};
    $answer->{header} = join "\r\n", "HTTP/1.1 $answer->{status} Status",
        @{$answer->{lines}}, @length, 'Connection: '
        . ($request->{keep} ? 'keep-alive' : 'close'), '', '';
    $answer->{body} = $answer->{chunked}
        ? sprintf("%x\r\n%s\r\n%s\r\n\r\n", length $body, $body,
                  $answer->{last}) : $body;
}

# parameters in the order in which they came

sub params_request {
    my ($body, @params) = @_;
    my %first;

    $first{$_->[0]} //= $_->[1] for @params;

    return {
        line => ($first{REQUEST_METHOD} // '') . ' '
            . ($first{REQUEST_URI} // ''),
        headers => \@params, default => "ok\n", body => $body,
        length => $first{CONTENT_LENGTH} || 0,
    };
}

# what follows behind the parameters

sub with_body {
    my ($socket, @params) = @_;
    my $request = params_request(0, @params);

    $request->{body} = length take($socket, $request->{length});

    return $request;
}

sub fastcgi_request {
    my $socket = shift;
    my ($id, $keep, $params, $body) = (0, 0, '', 0);

    while (1) {
        my ($type, $length, $padding);

        (undef, $type, $id, $length, $padding, undef)
            = unpack 'CCnnCC', take($socket, 8);
        my $content = take($socket, $length);
        take($socket, $padding);

        $keep = ord substr $content, 2, 1 if $type == 1;
        $params .= $content if $type == 4;      # FCGI_PARAMS
        last if $type == 5 && $length == 0;     # the end of FCGI_STDIN
        $body += $length if $type == 5;
    }

    my @params;

    while (length $params) {
        my @lengths = map { fastcgi_length(\$params) } 1 .. 2;
        push @params, [map { substr $params, 0, $_, '' } @lengths];
    }

    return { %{params_request($body, @params)}, id => $id, keep => $keep };
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

sub fastcgi_frame {
    my ($request, $answer) = @_;
    my $stdout = sub { join '', map { pack('CCnnCC', 1, 6, $request->{id},
        length, 0, 0) . $_ } unpack '(a32768)*', shift };

    $answer->{header} = $stdout->(join "\r\n",
        "Status: $answer->{status} Status", @{$answer->{lines}},
        'Content-Length: ' . length $answer->{body}, '', '');

    # FCGI_STDOUT, its end, FCGI_END_REQUEST
    $answer->{body} = $stdout->($answer->{body})
        . pack('CCnnCC', 1, 6, $request->{id}, 0, 0, 0)
        . pack('CCnnCCNCx3', 1, 3, $request->{id}, 8, 0, 0, 0, 0);
}

sub scgi_request {
    my $socket = shift;
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

    return with_body($socket, @params);
}

sub scgi_frame {
    my ($request, $answer) = @_;

    $answer->{header} = join "\r\n", "Status: $answer->{status} Status",
        @{$answer->{lines}}, 'Content-Length: ' . length $answer->{body}, '',
        '';
}

sub uwsgi_request {
    my $socket = shift;
    my (undef, $length) = unpack 'Cv', take($socket, 4);
    my @fields = unpack '(v/a)*', take($socket, $length);
    my @params;

    push @params, [splice @fields, 0, 2] while @fields;

    return with_body($socket, @params);
}

# a status line, as nginx expects it of uwsgi as well

sub uwsgi_frame {
    my ($request, $answer) = @_;

    scgi_frame($request, $answer);
    $answer->{header} =~ s{\AStatus:}{HTTP/1.1};
}

# programs of others. Their parent waits until the test is gone

sub program {
    my ($self, $gone, @command) = @_;
    my $pid = fork();

    die "fork: $!" if !defined $pid;

    if ($pid == 0) {
        exec(@command) or leave();
    }

    local $SIG{TERM} = local $SIG{CHLD} = sub { };
    sysread $gone, my $byte, 1;
    kill 'TERM', $pid;
    waitpid $pid, 0;
}

sub run_grpc {
    my ($self, $gone) = @_;
    my ($script) = __FILE__ =~ m{(.*)/};

    $self->program($gone, '/usr/bin/python3', "$script/grpc_echo.py",
        $self->{socket}, $self->{log});
}

sub run_memcached {
    my ($self, $gone) = @_;

    $self->program($gone, 'memcached', '-s', $self->{socket}, '-a', '777',
        '-m', 4, '-t', 1, $> == 0 ? ('-u', 'root') : ());
}

sub wait_for_program {
    my $self = shift;

    for (1 .. 200) {
        return if IO::Socket::UNIX->new($self->{socket});
        sleep 0.05;
    }

    die "no $self->{protocol} at $self->{socket}";
}

1;

package ReceiveCommand;

# `traceparent receive` as tests need it: started and ended, with what it
# prints; and the bytes that are sent to it. Its socket is $socket.

use strict;
use warnings;

use Exporter 'import';
use File::Temp ();
use IO::Select;
use IO::Socket::UNIX;
use JSON::PP ();
use List::Util ();
use POSIX ();
use Socket qw(SOCK_STREAM);
use Test::More;
use Time::HiRes qw(sleep time);

our @EXPORT = qw(
    $command $socket $trace_id $span_id $t0
    varint bytes number fixed64 fixed32 id string_value int_value attribute
    attributes span record request request_of
    start start_into ended stop wait_for slurp out lines memory cpu
    connection head message chunked send_all response post status_of alive
    tree_of);

our $command  = ($ENV{TEST_BUILD} // 'build') . '/traceparent';
our $trace_id = '4bf92f3577b34da6a3ce929d0e0e4736';
our $span_id  = '00f067aa0ba902b7';
our $t0       = 1_700_000_000_000_000_000;

my $dir  = File::Temp->newdir();
my $json = JSON::PP->new->utf8;

our $socket = "$dir/otlp.sock";

$ENV{LC_ALL} = 'C.UTF-8';
delete $ENV{NO_COLOR};

my %running;

END {
    local $?;
    kill KILL => keys %running;
}


# protobuf

sub varint {
    my ($n) = @_;

    my $bytes = '';
    while ($n > 0x7f) {
        $bytes .= chr($n & 0x7f | 0x80);
        $n >>= 7;
    }

    return $bytes . chr $n;
}

sub bytes   { varint($_[0] << 3 | 2) . varint(length $_[1]) . $_[1] }
sub number  { varint($_[0] << 3) . varint($_[1]) }
sub fixed64 { varint($_[0] << 3 | 1) . pack 'Q<', $_[1] }
sub fixed32 { varint($_[0] << 3 | 5) . pack 'L<', $_[1] }
sub id      { bytes($_[0], pack 'H*', $_[1]) }

sub string_value { bytes(1, $_[0]) }
sub int_value    { number(3, $_[0]) }
sub attribute    { bytes(1, $_[0]) . bytes(2, $_[1]) }

# Attributes as that field: names and values.
sub attributes {
    my ($field, @of) = @_;

    return join '', map { bytes($field, attribute(@$_)) } List::Util::pairs(@of);
}

# The fields of a span; those in |more| are appended as they are.
sub span {
    my (%of) = (
        trace => $trace_id,
        id    => $span_id,
        name  => 'GET /',
        kind  => 2,
        start => $t0,
        ms    => 12.3,
        more  => '',
        @_
    );

    return
        id(1, $of{trace})
      . id(2, $of{id})
      . (defined $of{parent} ? id(4, $of{parent}) : '')
      . bytes(5, $of{name})
      . number(6, $of{kind})
      . fixed64(7, $of{start})
      . fixed64(8, $of{start} + int($of{ms} * 1e6))
      . $of{more};
}

sub request_of {
    my ($service, @spans) = @_;

    return bytes(1,
        bytes(1, bytes(1, attribute('service.name', string_value($service))))
          . bytes(2,
            bytes(1, bytes(1, 'test') . bytes(2, '1.0'))
              . join '', map { bytes(2, $_) } @spans));
}

sub request { request_of('shop', @_) }

# The fields of a log record: an event of ours if it has a name.
sub record {
    my (%of) = (
        event => '',
        trace => $trace_id,
        id    => $span_id,
        time  => $t0,
        more  => '',
        @_
    );

    return
        fixed64(1, $of{time})
      . number(2, 9)
      . fixed32(8, 1)
      . id(9, $of{trace})
      . id(10, $of{id})
      . fixed64(11, $of{time})
      . bytes(12, $of{event})
      . $of{more};
}


# the receiver

# Starts one and waits until it listens. Returns what is known of it.
sub start {
    my (@args) = @_;

    return start_into(undef, @args);
}

sub start_into {
    my ($out, @args) = @_;

    my $n      = 1 + keys %running;
    my %server = (
        out => "$dir/out.$n." . int(rand 1e9),
        err => "$dir/err.$n." . int(rand 1e9),
    );

    $server{pid} = fork // die "fork: $!";

    if ($server{pid} == 0) {
        if (!defined $out) {
            open STDOUT, '>', $server{out} or POSIX::_exit(99);
        }
        elsif ($out ne 'closed') {
            open STDOUT, '>&', $out or POSIX::_exit(99);
        }

        open STDERR, '>', $server{err} or POSIX::_exit(99);
        POSIX::close(1) if ($out // '') eq 'closed';
        exec { $command } $command, 'receive', @args
          or POSIX::_exit(99);
    }

    $running{ $server{pid} } = 1;

    wait_for(sub { slurp($server{err}) =~ /^listening on (.*)$/m })
      or diag('not listening: ', slurp($server{err}));
    ($server{name}) = slurp($server{err}) =~ /^listening on (.*)$/m;

    return \%server;
}

# Waits for its end. Returns its exit code, or a text about what went wrong.
sub ended {
    my ($server) = @_;

    my $done = wait_for(sub {
        waitpid($server->{pid}, POSIX::WNOHANG()) == $server->{pid};
    });
    return 'still running' if !$done;

    my $status = $?;
    delete $running{ $server->{pid} };

    return $status & 127 ? "signal " . ($status & 127) : $status >> 8;
}

sub stop {
    my ($server) = @_;

    kill TERM => $server->{pid};

    return ended($server);
}

sub wait_for {
    my ($true) = @_;

    for (my $end = time + 15; time < $end; sleep 0.02) {
        return 1 if $true->();
    }

    return 0;
}

sub slurp {
    my ($name) = @_;

    open my $file, '<:raw', $name or return '';
    local $/;

    return scalar(<$file>) // '';
}

sub out { slurp($_[0]{out}) }

sub lines { map { $json->decode($_) } split /\n/, out($_[0]) }

# In KiB; nothing where AddressSanitizer has made it a multiple.
sub memory {
    my ($server, $field) = @_;

    return 0 if $ENV{ASAN_OPTIONS};

    my ($kib) = slurp("/proc/$server->{pid}/status") =~ /^$field:\s*(\d+)/m;

    return $kib;
}


# Seconds of CPU that it has taken.
sub cpu {
    my ($server) = @_;

    my ($user, $system)
      = (split ' ', slurp("/proc/$server->{pid}/stat"))[13, 14];

    return ($user + $system) / POSIX::sysconf(POSIX::_SC_CLK_TCK());
}


# HTTP

sub connection {
    my $client
      = IO::Socket::UNIX->new(Type => SOCK_STREAM, Peer => $_[0] // $socket);

    return $client;
}

sub head {
    my (%headers) = @_;

    my $method = delete $headers{':method'} // 'POST';
    my $path   = delete $headers{':path'}   // '/v1/traces';
    %headers = (
        'Host'         => 'localhost',
        'Content-Type' => 'application/x-protobuf',
        %headers
    );

    return join "\r\n", "$method $path HTTP/1.1",
      (map { defined $headers{$_} ? "$_: $headers{$_}" : () }
          sort keys %headers),
      '', '';
}

sub message {
    my ($body, %headers) = @_;

    return head('Content-Length' => length $body, %headers) . $body;
}

sub chunked {
    my ($size, $body, %headers) = @_;

    my $chunks = join '',
      map { sprintf "%x\r\n%s\r\n", length $_, $_ } unpack "(a$size)*", $body;

    return head('Transfer-Encoding' => 'chunked', %headers)
      . "${chunks}0\r\n\r\n";
}

# Sends all of it, whether or not the server wants to read it.
sub send_all {
    my ($client, $data) = @_;

    local $SIG{PIPE} = 'IGNORE';

    my $offset = 0;
    while ($offset < length $data) {
        my $n = syswrite $client, $data, 65536, $offset;
        return 0 if !defined $n;
        $offset += $n;
    }

    return 1;
}

# Reads one response. Returns its status, body and headers.
sub response {
    my ($client) = @_;

    my $data   = '';
    my $select = IO::Select->new($client);
    my ($head, $body, $length);

    while (1) {
        if (!defined $head && $data =~ s/\A(.*?\r\n)\r\n//s) {
            $head = $1;
            ($length) = $head =~ /^content-length: *(\d+)/mi;
            if ($head =~ m{\AHTTP/1.1 100}) {
                undef $head;
                next;
            }
        }

        last if defined $head && length $data >= ($length // 0);
        return ('timeout') if !$select->can_read(15);
        my $n = sysread $client, $data, 65536, length $data;
        last if !$n;
    }

    return ('closed') if !defined $head;
    my ($status) = $head =~ m{\AHTTP/1.1 (\d+)};

    return ($status, $data, $head);
}

sub post {
    my ($body, %headers) = @_;

    my $client = connection() or return ("connect: $!");
    send_all($client, message($body, %headers));

    return response($client);
}

sub status_of { (post(@_))[0] }

sub alive {
    my ($what) = @_;

    is(status_of(request(span())), 200, "answers after $what");
}

# The printed trees of what |posts| says, each a body and headers.
sub tree_of {
    my ($args, @posts) = @_;

    my $server = start(@$args, "unix:$socket");
    for (@posts) {
        is(status_of(@$_), 200, 'is accepted');
    }
    is(stop($server), 0, 'ends');

    return out($server);
}

1;

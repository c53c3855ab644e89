package Nginx;

# An nginx of a test's own, for what Test::Nginx cannot express: signals,
# reloads, workers that die. It listens on $dir/nginx.sock and on a free port
# of loopback, and is ended when the object goes. A start may take 10 seconds, or
# patience => SECONDS.
#
#   my $nginx = Nginx->new(http => '...', server => '...', main => '...');
#   $nginx->start;
#   my ($status, $body) = $nginx->get('/path', 'Header: value');
#   $nginx->signal('HUP'); $nginx->workers; $nginx->quit; $nginx->log
#   $nginx->reload(http => '...'); $nginx->crash; $nginx->test; $nginx->memory
#
# What it sends is checked when it goes, see Leak.pm.
#
# With daemon => 1 it goes into the background. wrapper => [...] is a command
# that starts it.

use strict;
use warnings;

use File::Temp;
use IO::Socket::INET;
use IO::Socket::UNIX;
use Leak;
use POSIX ();
use Scalar::Util qw(weaken);
use Time::HiRes qw(sleep time);

my @all;

sub new {
    my ($class, %conf) = @_;
    my $self = bless { %conf, temp => File::Temp->newdir() }, $class;

    $self->{dir} = $self->{temp}->dirname;
    chmod 0755, $self->{dir};

    my $socket = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1)
        or die "no port: $!";
    $self->{port} = $socket->sockport;
    close $socket;

    $self->{leak} = Leak->new("$self->{dir}/wiretap");
    $self->{configured} = '';
    weaken($all[@all] = $self);

    return $self;
}

sub configure {
    my ($self, %conf) = @_;
    my $dir = $self->{dir};

    %$self = (%$self, %conf);

    for (qw(main events http server)) {
        $self->{$_} = '' if !defined $self->{$_};
    }

    my $modules = join '', map { "load_module $_;\n" }
        split ' ', $ENV{TEST_NGINX_LOAD_MODULES} || '';
    my $temp = join '', map { "${_}_temp_path $dir/$_;\n" }
        qw(client_body proxy fastcgi uwsgi scgi);

    $self->{configured} .= "$self->{http} $self->{server}";

    open my $fh, '>', "$dir/nginx.conf" or die $!;
    print $fh <<"_EOC_";
$modules
pid $dir/nginx.pid;
error_log $dir/error.log info;
$self->{main}
events { $self->{events} }
http {
    access_log off;
    $temp
    $self->{http}
    server {
        listen unix:$dir/nginx.sock;
        listen 127.0.0.1:$self->{port};
        $self->{server}
    }
}
_EOC_
    close $fh;
}

sub command {
    my ($self, @args) = @_;
    my @binary = split ' ', $ENV{TEST_NGINX_BINARY} || 'nginx';

    return (@binary, '-p', $self->{dir}, '-e', "$self->{dir}/error.log",
            '-c', "$self->{dir}/nginx.conf", @args);
}

# in the foreground, as a child: who else would reap it is not in a hurry

sub start {
    my $self = shift;

    $self->configure;
    unlink "$self->{dir}/nginx.pid", "$self->{dir}/nginx.sock";

    $self->{pid} = fork();
    die "fork: $!" if !defined $self->{pid};

    if ($self->{pid} == 0) {
        %ENV = (%ENV, $self->{leak}->environment);
        exec @{$self->{wrapper} || []},
            $self->command($self->{daemon} ? () : ('-g', 'daemon off;'))
            or POSIX::_exit(1);
    }

    my $child = $self->{pid};
    waitpid $child, 0 if $self->{daemon};

    # a master that has no workers yet would miss a signal

    $self->wait_for(sub {
        return 1 if !$self->{daemon} && !alive($child);
        $self->{pid} = $self->pid or return;
        return $self->connect && ($self->workers
            || $self->{main} =~ /master_process off/);
    }, $self->{patience});

    $self->{pid} = $self->pid
        or die 'nginx does not start: ' . $self->log;

    return $self;
}

# a new configuration, of which at least one worker is there on return

sub reload {
    my ($self, %conf) = @_;
    my %old = map { $_ => 1 } $self->workers;

    $self->configure(%conf);
    $self->signal('HUP');
    $self->wait_for(sub { grep { !$old{$_} } $self->workers })
        or die 'nginx does not reload: ' . $self->log;
}

# all of nginx dies, the master first so that it does not replace a worker

sub crash {
    my $self = shift;
    my @pids = ($self->{pid}, $self->workers);

    kill 'KILL', @pids;
    $self->gone($_, 10) for @pids;
    undef $self->{pid};
}

# what "nginx -t" says, and whether it likes what it sees

sub test {
    my ($self, %conf) = @_;

    $self->configure(%conf);

    my $command = join ' ', map { "'$_'" } $self->command('-t');
    my $output = `$command 2>&1`;

    return ($output, $? == 0);
}

# bytes in use by the workers, with their share of what is shared

sub memory {
    my $self = shift;
    my $sum = 0;

    for my $pid ($self->workers) {
        open my $fh, '<', "/proc/$pid/smaps_rollup" or next;
        /^Pss:\s+(\d+) kB/ and $sum += $1 * 1024 while <$fh>;
    }

    return $sum;
}

sub pid {
    my $self = shift;

    open my $fh, '<', "$self->{dir}/nginx.pid" or return;
    my $pid = <$fh>;
    return if !$pid;
    chomp $pid;
    return $pid;
}

sub workers {
    my $self = shift;

    open my $fh, '<', "/proc/$self->{pid}/task/$self->{pid}/children"
        or return;
    return split ' ', <$fh> // '';
}

sub signal {
    my ($self, $signal) = @_;

    kill $signal, $self->{pid};
}

sub alive {
    my $pid = shift;

    waitpid $pid, POSIX::WNOHANG;
    open my $fh, '<', "/proc/$pid/stat" or return 0;
    return <$fh> !~ /\) Z /;
}

# true if the process is gone within |seconds|; then the time that it took

sub gone {
    my ($self, $pid, $seconds) = @_;
    my $start = time;

    while (time < $start + $seconds) {
        return time - $start if !alive($pid);
        sleep 0.01;
    }

    return;
}

sub quit {
    my ($self, $seconds) = @_;
    my $pid = $self->{pid};

    $self->signal('QUIT');

    my $time = $self->gone($pid, $seconds || 10);
    undef $self->{pid} if defined $time;
    return $time;
}

sub wait_for {
    my ($self, $check, $seconds) = @_;
    my $deadline = time + ($seconds || 10);

    while (time < $deadline) {
        my $value = $check->();
        return $value if $value;
        sleep 0.02;
    }

    return;
}

sub log {
    my $self = shift;

    open my $fh, '<', "$self->{dir}/error.log" or return '';
    local $/;
    return scalar <$fh>;
}

sub connect {
    my $self = shift;

    return IO::Socket::UNIX->new(Peer => "$self->{dir}/nginx.sock");
}

sub get {
    my ($self, $path, @headers) = @_;
    my $socket = $self->connect or return;

    print $socket join "\r\n", "GET $path HTTP/1.1", 'Host: localhost',
        'Connection: close', @headers, '', '';

    local $/;
    my $answer = <$socket>;
    return if !defined $answer;

    my ($head, $body) = split /\r\n\r\n/, $answer, 2;
    my ($status) = $head =~ m{^HTTP/1\.\d (\d+)};
    return wantarray ? ($status, $body) : $status;
}

# ends it, and looks at what it has sent

sub finish {
    my $self = shift;

    if ($self->{pid}) {
        my @workers = $self->workers;

        kill 'TERM', $self->{pid};

        if (!defined $self->gone($self->{pid}, 5)) {
            kill 'KILL', $self->{pid}, @workers;
        }

        undef $self->{pid};
    }

    # when all of Perl ends, it may have ended before
    $self->{leak}->check('nginx', $self->{configured},
        $self->{shows_internal}) if $self->{leak};
}

sub DESTROY {
    my $self = shift;
    my $status = $?;

    $self->finish;
    $? = $status;
}

END {
    my $status = $?;
    $_->finish for grep { defined } @all;
    $? = $status;
}

1;

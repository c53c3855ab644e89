package Hop;

# An nginx that traces, in front of a server that answers with what it got, and
# the spans: for many requests of one kind.
#
#   my $hop = Hop->new($dir, http => '...', server => '...');
#   my @answers = $hop->ask(['/t?n=1', 'tracestate: a=1'], ['/t?n=2'], ...);
#   my @spans = $hop->spans;          # ends nginx, so these are all
#
# The requests of an ask go over one connection, without a wait in between. An
# answer is a hash:
#
#   status
#   sent    [traceparent, tracestate], as the server behind has them
#   own     what our variables are at the end of the response's header, by
#           their names without the "internal_"
#   body    instead of |sent|, of what did not come from the server behind
#
# In the configuration, that server is the upstream "behind".
#
#   $hop->requests    of those that have ended: [worker, time, argument n,
#                     sampled, trace-id]
#   $hop->{nginx}     see Nginx.pm

use strict;
use warnings;

use IO::Socket::UNIX;
use POSIX ();

use Nginx;
use Spans;

my @variables = qw(traceparent tracestate trace_id span_id parent_id sampled
    parent_sampled);

sub new {
    my ($class, $dir, %conf) = @_;
    my $self = bless { dir => $dir, log => "$dir/requests.log" }, $class;
    my $http = delete $conf{http} // '';
    my $shown = join ' ', map { "$_=\$internal_$_" } @variables;

    # responses show our ids, and are many
    local $ENV{TEST_NGINX_LD_PRELOAD} = '';

    $self->{spans} = Spans->new("$dir/otlp.sock");
    $conf{server} = "access_log $self->{log} requests buffer=64k;
        add_header x-own '$shown' always; $conf{server}";
    $self->{nginx} = Nginx->new(%conf, http => <<"_EOC_")->start;
map \$request_uri \$n { "~[?&]n=(?<number>\\d+)" \$number; default ""; }
trace_exporter internal { endpoint unix:$dir/otlp.sock; interval 20ms; }
trace_default_attributes internal none;
trace_attribute internal n \$n;
trace_upstream off;

log_format requests '\$pid \$msec \$n \$internal_sampled'
                    ' \$internal_trace_id';
keepalive_requests 10000000;

upstream behind { server unix:$dir/behind.sock; keepalive 8; }
proxy_http_version 1.1;
proxy_set_header Connection "";

server {
    listen unix:$dir/behind.sock;
    trace internal off;
    trace_trusted internal all;
    return 200 "\$http_traceparent|\$http_tracestate";
}
$http
_EOC_

    return $self;
}

sub ask {
    my ($self, @requests) = @_;
    my $socket = $self->{nginx}->connect or die "connect: $!";
    my $pid = fork();

    die "fork: $!" if !defined $pid;

    if ($pid == 0) {
        for my $i (0 .. $#requests) {
            my ($uri, @headers) = @{$requests[$i]};

            push @headers, 'Connection: close' if $i == $#requests;
            print $socket join "\r\n", "GET $uri HTTP/1.1", 'Host: localhost',
                @headers, '', '';
        }

        $socket->flush;
        POSIX::_exit(0);
    }

    my $input = '';

    1 while sysread $socket, $input, 1048576, length $input;
    waitpid $pid, 0;

    return answers($input);
}

sub answers {
    my $input = shift;
    my @answers;

    while ($input =~ m{\GHTTP/1\.1 (\d+) .*?\r\n(.*?\r\n)\r\n}gcs) {
        my ($status, $head) = ($1, $2);
        my ($length) = $head =~ /^Content-Length: (\d+)\r$/mi;
        my ($own) = $head =~ /^x-own: ([^\r]*)/mi;
        my $body = substr $input, pos $input, $length // 0;

        pos($input) += $length // 0;
        push @answers, { status => $status, body => $body,
            sent => [split /\|/, $body, 2],
            own => { map { split /=/, $_, 2 }
                     split / (?=\w+=)/, $own // '' } };
    }

    return @answers;
}

# all of them, in the order in which they came

sub spans {
    my $self = shift;

    defined $self->{nginx}->quit(20) or die 'nginx does not end';
    $self->{spans}->stop;

    return $self->{spans}->all;
}

sub requests {
    my $self = shift;

    open my $fh, '<', $self->{log} or die "$self->{log}: $!";
    return map { chomp; [split / /] } <$fh>;
}

1;

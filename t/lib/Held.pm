package Held;

# Requests that are held open, in both pipelines. All of Delivery comes along.
#
#   my $nginx = held($dir, 'interval 50ms;')->start;
#   my @sockets = hold($nginx, [$uri, @headers], ...);   # none is waited for
#   my @open = until_open($nginx, 100);        # so many, or 10 seconds are over
#   my ($open, $total) = open_spans($nginx);
#   upstream()->requests
#
# In lines of the exporters PIPELINE is the name of each. Both pipelines are on;
# the user's routing is the argument tenant. All goes to upstream(), see
# Upstream.pm. More goes into |server|, or |http|.
#
#   context($n)                the headers of a trace of each pipeline
#   trace_of($pipeline, $n)    its trace-id
#   parent_of($pipeline, $n)   its parent-id
#   number_of($span)           the |$n| of one that came, or was open

use strict;
use warnings;

use Exporter 'import';
use File::Temp;

use Delivery;
use Upstream;

our @EXPORT = (@Delivery::EXPORT, qw(held hold until_open open_spans upstream
    context trace_of parent_of number_of));

# what ids of each pipeline begin with, and its header

my %first = (internal => 'a', user => 'b');
my %header = (internal => 'x-op-traceparent', user => 'traceparent');

my ($dir, $upstream);

sub upstream {
    return $upstream if $upstream;

    $dir = File::Temp->newdir();
    chmod 0755, $dir;

    return $upstream = Upstream->new(protocol => 'http',
        socket => "$dir/http.sock");
}

sub held {
    my ($dir, $lines, %conf) = @_;
    my $server = delete $conf{server} // '';
    my $http = delete $conf{http} // '';
    my $socket = upstream()->{socket};
    my %lines = map { $_ => $lines =~ s/PIPELINE/$_/gr } keys %header;

    return nginx($dir, $lines{internal},
        events => 'worker_connections 4096;', %conf,
        http => exporter($dir, "routing_header x-tenant; $lines{user}", 'user')
            . "trace internal on;
               trace user on;
               trace_routing \$arg_tenant;
               trace_context internal propagate header=$header{internal};
               trace_trusted internal all;
               upstream behind { server unix:$socket; keepalive 32; }
               proxy_http_version 1.1;
               proxy_set_header Connection '';
               proxy_read_timeout 120s;
               $http",
        server => "location = /status { trace internal off; trace user off;
                       trace_status format=json; }
                   location / { proxy_pass http://behind; }
                   $server");
}

sub hold {
    my ($nginx, @requests) = @_;

    return map {
        my ($uri, @headers) = @$_;
        my $socket = $nginx->connect or die "connect: $!";

        syswrite $socket, join "\r\n", "GET $uri HTTP/1.1", 'Host: localhost',
            @headers, '', '';
        $socket;
    } @requests;
}

sub open_spans {
    my $nginx = shift;

    return @{status($nginx)}{qw(open_spans open_spans_total)};
}

sub until_open {
    my ($nginx, $n) = @_;
    my ($open, $total);

    $nginx->wait_for(sub {
        ($open, $total) = open_spans($nginx);
        return $total == $n;
    });

    return @$open;
}

sub context {
    my $n = shift;

    return map { sprintf '%s: 00-%s-%s-01', $header{$_}, trace_of($_, $n),
        parent_of($_, $n) } sort keys %header;
}

sub trace_of { sprintf '%s%031x', $first{$_[0]}, $_[1] }
sub parent_of { sprintf '%s%015x', $first{$_[0]}, $_[1] }
sub number_of { hex substr $_[0]{trace_id}, -8 }

# its socket goes with its directory

END {
    my $status = $?;
    $upstream->stop if $upstream;
    undef $dir;
    $? = $status;
}

1;

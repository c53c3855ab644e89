package TraceTest;

# Test::Nginx::Socket for this module: a receiver that collects what nginx
# exports, and sections that say what is expected of it.
#
#   --- http_config          without one, both pipelines have an exporter
#   --- exporter: LINE       more lines for both of these exporters
#   --- http                 more lines for the http block beside them
#   --- spans eval           [ { name => ..., attributes => { ... } }, ... ]
#                            all request spans of the block, internal ones
#                            first, then by end: a start may be nginx's own,
#                            which is up to a millisecond early. Each hash names
#                            what is compared: a string, qr//, undef (absent) or
#                            a hash in turn
#   --- tree                 all spans of the block as trees, drawn as text, of
#                            which much is checked: see Tree.pm
#   --- events               what is announced of them, in its order: see
#                            Events.pm
#   --- check_spans eval     sub { my @spans = @_; ... } with Test::More: the
#                            request spans, or with --- tree or --- events all
#   --- check_events eval    sub { my @records = @_; ... }: what was announced
#   --- span_count: N        how many check_spans waits for, 1 by itself
#   --- client eval          sub { ... } instead of a request, for what is no
#                            request or gets no response; see talk(), get()
#
# In these, the functions of Test::More and of this file can be called.
#
# Without error_log and no_error_log, nothing from error up may be logged; with
# error_log alone, nothing above error.
#
# Of every block it is checked that nothing internal gets out, see Leak.pm, to
# which --- shows_internal belongs.
#
# The receiver's socket is $TEST_NGINX_OTLP in every configuration.

use strict;
use warnings;

use Events;
use Exporter 'import';
use File::Temp;
use IO::Select;
use IO::Socket::INET;
use JSON::XS;
use Leak;
use Test::Nginx::Socket 'no_plan';
use Time::HiRes qw(sleep time);
use Tree;

our @EXPORT = (@Test::Nginx::Socket::EXPORT, qw(
    spans_until events_until receiver_dir connection talk get));

my $build = $ENV{TEST_BUILD} || 'build';
my $dir = File::Temp->newdir();
my $jsonl = "$dir/spans.jsonl";
my $receiver;
my $read = 0;

# spans that nobody has taken yet, and the records of the block
my (@spans, @events);

# of the nginx that runs, and of the one that starts: [Leak, block]
my ($running, $starting);
my $starts = 0;

$ENV{TEST_NGINX_OTLP} = "unix:$dir/otlp.sock";
$ENV{TEST_NGINX_DIR} = "$dir";

my $exporters = <<'_EOC_';
    trace_resource INTERNAL-MARKER-name INTERNAL-MARKER-value;
    trace_exporter internal {
        endpoint $TEST_NGINX_OTLP;
        interval 20ms;
        EXPORTER
    }
    trace_exporter user {
        endpoint $TEST_NGINX_OTLP;
        routing_header x-tenant;
        interval 20ms;
        EXPORTER
    }
_EOC_

sub receiver_dir { "$dir" }

sub start_receiver {
    $receiver = fork();
    die "fork: $!" if !defined $receiver;

    if ($receiver == 0) {
        open STDOUT, '>', $jsonl or die "$jsonl: $!";
        open STDERR, '>', "$dir/receiver.log" or die $!;
        exec "$build/traceparent", 'receive', '--json', $ENV{TEST_NGINX_OTLP};
        die "exec: $!";
    }

    for (1 .. 100) {
        return if -S "$dir/otlp.sock";
        sleep 0.05;
    }

    die 'no receiver: ' . slurp("$dir/receiver.log");
}

sub stop_receiver {
    return if !$receiver;
    kill 'TERM', $receiver;
    waitpid $receiver, 0;
    undef $receiver;
}

sub slurp {
    open my $fh, '<', $_[0] or return '';
    local $/;
    return scalar <$fh>;
}

# the spans that have arrived since the last call, once there are |n| of them
# and no more follow, or after ten seconds; with |$kind|, |n| of these

sub spans_until {
    my ($n, $kind) = @_;

    arrive(sub {
        $n <= grep { !defined $kind || $_->{kind} eq $kind } @spans;
    });

    return sort {
        exists $a->{headers}{'x-tenant'} <=> exists $b->{headers}{'x-tenant'}
        || $a->{end_time_unix_nano} cmp $b->{end_time_unix_nano}
    } splice @spans;
}

# all records of events since the block began, in the order in which they came,
# once there are |$n| of them

sub events_until {
    my $n = shift;

    arrive(sub { @events >= $n });

    return @events;
}

sub arrive {
    my $complete = shift;
    my $deadline = time + 10;

    do {
        sleep 0.03;
        take_lines();
    } while (!$complete->() && time < $deadline);

    sleep 0.1;
    take_lines();
}

sub take_lines {
    open my $fh, '<:raw', $jsonl or die "$jsonl: $!";
    seek $fh, $read, 0;

    for my $line (grep { /\n\z/ } <$fh>) {
        my $object = decode_json($line);

        push @{exists $object->{event_name} ? \@events : \@spans}, $object;
        $read += length $line;
    }
}

# a connection to nginx

sub connection {
    for (1 .. 100) {
        my $socket = IO::Socket::INET->new(
            PeerAddr => '127.0.0.1',
            PeerPort => $ENV{TEST_NGINX_CLIENT_PORT});

        return $socket if $socket;
        sleep 0.05;
    }

    die "connect: $@";
}

# sends |bytes| on a connection, reads until nginx closes it or |seconds| are
# over, and leaves

sub talk {
    my ($bytes, $seconds) = @_;
    my $socket = connection();
    my $select = IO::Select->new($socket);
    my $end = time + ($seconds || 5);
    my $response = '';

    local $SIG{PIPE} = 'IGNORE';
    $socket->syswrite($bytes);

    while ($select->can_read($end - time)) {
        last if !$socket->sysread($response, 65536, length $response);
    }

    return $response;
}

# GETs each of |paths| on one connection; |headers| of each request are a
# reference that comes first, if there are any

sub get {
    my $headers = ref $_[0] ? join '', map { "$_\r\n" } @{+shift} : '';
    my @paths = @_;

    return talk(join '', map {
        "GET $paths[$_] HTTP/1.1\r\nHost: localhost\r\n$headers"
        . ($_ == $#paths ? "Connection: close\r\n\r\n" : "\r\n")
    } 0 .. $#paths);
}

sub matches {
    my ($got, $expected, $name) = @_;

    if (ref $expected eq 'HASH') {
        matches($got->{$_}, $expected->{$_}, "$name $_")
            for sort keys %$expected;

    } elsif (ref $expected eq 'ARRAY') {
        Test::More::is_deeply($got, $expected, $name);

    } elsif (ref $expected eq 'Regexp') {
        Test::More::like($got, $expected, $name);

    } else {
        Test::More::is($got, $expected, $name);
    }
}

add_block_preprocessor(sub {
    my $block = shift;

    if (!defined $block->http_config) {
        my $more = $block->exporter;
        my $config = $exporters;

        $more = '' if !defined $more;
        $config =~ s/EXPORTER/$more/g;
        $config .= $block->http if defined $block->http;
        $block->set_value('http_config', $config);
    }

    if (!defined $block->no_error_log) {
        $block->set_value('no_error_log', "[alert]\n[crit]\n[emerg]\n"
            . (defined $block->error_log ? '' : "[error]\n"));
    }

    if (defined $block->client) {
        $block->set_value('request', "GET /\n");
    }
});

add_response_body_check(sub {
    my ($block, $body, $req_idx, $repeated_req_idx, $dry_run) = @_;

    my $requests = $block->pipelined_requests || $block->request;

    return if $dry_run;
    return if ref $requests && $req_idx < @$requests - 1;

    check_spans($block);
});

# Test::Nginx preloads for nginx what t/run says

add_block_preprocessor(sub {
    my $leak = Leak->new("$dir/leak." . ++$starts);

    $ENV{WIRETAP} = $leak->{dir};
    $starting = [$leak, shift];
});

sub nginx_has_ended {
    my ($leak, $block) = @{$running || return};

    undef $running;
    $leak->check($block->name, join("\n", grep { defined }
        $block->http_config, $block->config), $block->shows_internal);
}

# errors are looked for after the spans have arrived

my $run_requests = $Test::Nginx::Util::RunTestHelper;

$Test::Nginx::Util::RunTestHelper = sub {
    my ($block, $dry_run, $repeated_req_idx) = @_;

    # that of the block before
    nginx_has_ended();
    $running = $starting;

    take_lines();
    @events = ();
    upstream_requests();

    if (defined $block->client && !$dry_run) {
        $block->client->();
        check_spans($block);
        $Test::Nginx::Util::CheckErrorLog->($block, undef, $dry_run,
                                            $repeated_req_idx, 0);
        return;
    }

    $run_requests->(@_);
};

# what reached the servers of Upstream.pm since the last call, if there are any

sub upstream_requests {
    return Upstream->can('seen') && [Upstream->seen];
}

sub check_spans {
    my $block = shift;
    my $name = $block->name;
    my $expected = $block->spans;
    my $check = $block->check_spans;
    my $trees = defined $block->tree && Tree::parse($block->tree);
    my $events = defined $block->events && Events::parse($block->events);
    my $all = $trees || $events;

    return if !defined $expected && !defined $check && !$all;

    my $n = defined $expected ? @$expected
        : $trees ? Tree::count($trees)
        : defined $block->span_count ? $block->span_count
        : $events ? Events::count($events, 'open') : 1;
    my @spans = spans_until($n, $all ? undef : 'SERVER');

    @spans = grep { $_->{kind} eq 'SERVER' } @spans if !$all;

    if (defined $expected) {
        Test::More::is(scalar @spans, scalar @$expected, "$name - spans");
        matches($spans[$_], $expected->[$_], "$name - span $_")
            for 0 .. $#$expected;
    }

    Tree::check($trees, \@spans, upstream_requests(), $name) if $trees;

    if ($events) {
        my @records = events_until(Events::count($events));

        Events::check($events, \@records, \@spans, $name);
        $block->check_events->(@records) if defined $block->check_events;
    }

    $check->(@spans) if defined $check;
}

# sections are evaluated in this package

{
    package Test::Base::Filter;

    Test::More->import(
        import => [qw(is isnt ok like unlike cmp_ok is_deeply)]);
    TraceTest->import(qw(spans_until events_until receiver_dir connection talk
        get));
}

start_receiver();

END {
    my $status = $?;

    if (-f $Test::Nginx::Util::PidFile) {
        Test::Nginx::Util::kill_process(
            Test::Nginx::Util::get_pid_from_pidfile(''), 1, 'END');
    }

    nginx_has_ended();
    stop_receiver();
    $? = $status;
}

1;

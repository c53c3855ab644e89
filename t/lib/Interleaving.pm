package Interleaving;

# Many requests at the same time, each with ids of its own, and the trees of
# spans that become of them, as text.
#
#   my @requests = map { request($_, path => "/plain/$_") } 1001 .. 2000;
#   my @answers = clients($dir, { requests => \@requests, ... }, ...);
#   my $forest = forest($jsonl, $arrivals, \@requests);
#
# A request is a hash:
#
#   n          its number, which goes along in the header x-mark; with more
#              digits than a status, so that it is known in a text
#   path       where it goes
#   tenant     whose it is, in the header x-tenant
#   internal   [trace-id, parent-id] in x-op-traceparent
#   user       [trace-id, parent-id] in traceparent

use strict;
use warnings;

use Exporter 'import';
use JSON::XS;
use POSIX ();

our @EXPORT = qw(request clients start_receiver end_receiver forest
    sorted);

my %header = (internal => 'x-op-traceparent', user => 'traceparent');
my $receiver;

sub request {
    my ($n, %conf) = @_;

    return { n => $n, tenant => 't' . $n % 5, %conf,
             map { $_ => [random_id(16), random_id(8)] } keys %header };
}

sub random_id {
    my $bytes = shift;

    return join '', map { sprintf '%08x', 1 + int rand 0xffffffff }
        1 .. $bytes / 4;
}

# A curl for each list of requests, all at the same time. A client is a hash:
#
#   requests   the list
#   url        what is in front of the path
#   streams    how many requests it has under way on its one connection
#   options    lines of curl's configuration for each request
#
# Returns of each client a hash of what each number got, "STATUS VERSION",
# and, as connections, how many it has made.

sub clients {
    my ($dir, @clients) = @_;
    my ($n, @running, @answers) = 0;

    for my $client (@clients) {
        my $file = "$dir/curl." . ++$n;

        open my $fh, '>', $file or die "$file: $!";
        print $fh join "next\n", map { curl_lines($client, $_) }
            @{$client->{requests}};
        close $fh;

        my @command = ('curl', '--no-progress-meter', '--config', $file);
        push @command, '--parallel', '--parallel-max', $client->{streams}
            if $client->{streams} > 1;

        open my $pipe, '-|', @command or die "curl: $!";
        push @running, $pipe;
    }

    for my $pipe (@running) {
        my %answer = (connections => 0);

        while (<$pipe>) {
            my ($n, $what, $connections) = /^(\d+) (.*) (\d+)$/;

            $answer{$n} = exists $answer{$n} ? "$answer{$n}, $what" : $what;
            $answer{connections} += $connections;
        }

        push @answers, \%answer;
    }

    return @answers;
}

sub curl_lines {
    my ($client, $request) = @_;

    return <<"_EOC_" . $client->{options};
url = "$client->{url}$request->{path}"
output = /dev/null
write-out = "$request->{n} %{http_code} %{http_version} %{num_connects}\\n"
max-time = 60
header = "x-mark: $request->{n}"
header = "x-tenant: $request->{tenant}"
header = "x-op-traceparent: ${\ join '-', '00', @{$request->{internal}}, '01'}"
header = "traceparent: ${\ join '-', '00', @{$request->{user}}, '01'}"
_EOC_
}

# a "traceparent receive" that writes its lines to a file

sub start_receiver {
    my ($endpoint, $jsonl) = @_;
    my $build = $ENV{TEST_BUILD} || 'build';

    $receiver = fork();
    die "fork: $!" if !defined $receiver;

    if ($receiver == 0) {
        open STDOUT, '>', $jsonl or POSIX::_exit(1);
        open STDERR, '>', "$jsonl.log" or POSIX::_exit(1);
        exec "$build/traceparent", 'receive', '--json', $endpoint
            or POSIX::_exit(1);
    }
}

sub end_receiver {
    kill 'TERM', $receiver;
    waitpid $receiver, 0;
    undef $receiver;

    return $?;
}

END {
    my $status = $?;
    end_receiver() if $receiver;
    $? = $status;
}

# What became of the requests, from the receiver's lines and from what reached
# the upstreams, whose lines are
#
#   MARK x-op-traceparent traceparent WHO URI
#
# It is a hash of
#
#   trees      of each pipeline, the text of each request's tree by its number
#   spans      how many there are
#   stray      lines of spans that are in no tree, or in the wrong one, or that
#              have an id for the second time
#   unclaimed  lines of what reached an upstream with an id that no attempt has
#   unlinked   requests whose internal span has no link to their user span
#   working    of each worker, [start, end] of its requests

sub forest {
    my ($jsonl, $arrivals, $requests) = @_;
    my $self = { trees => {}, spans => 0, stray => [], working => {} };
    my (%request, %seen, %children);

    for my $request (@$requests) {
        $request{"$_ $request->{$_}[0]"} = $request for keys %header;
    }

    my $arrived = arrivals($arrivals, $self->{stray});

    open my $fh, '<', $jsonl or die "$jsonl: $!";

    while (my $line = <$fh>) {
        my $span = decode_json($line);
        my $tenant = $span->{headers}{'x-tenant'};
        my $pipeline = defined $tenant ? 'user' : 'internal';
        my $request = $request{"$pipeline $span->{trace_id}"};

        $self->{spans}++;

        if (!$request || $seen{$span->{span_id}}++
            || defined $tenant && $tenant ne $request->{tenant})
        {
            push @{$self->{stray}}, $line;
            next;
        }

        my $text = text($span, $request,
            delete $arrived->{$pipeline}{"$span->{trace_id} $span->{span_id}"});

        push @{$children{"$span->{trace_id} $span->{parent_span_id}"}},
            [$span->{span_id}, $text, $line];

        if ($span->{kind} eq 'SERVER') {
            note_root($self, $request, $pipeline, $span);
        }
    }

    for my $pipeline (keys %header) {
        for my $request (@$requests) {
            $self->{trees}{$pipeline}{$request->{n}}
                = sorted(tree(@{$request->{$pipeline}}, \%children, ''));
        }
    }

    push @{$self->{stray}}, map { $_->[2] } map { @$_ } values %children;
    $self->{unlinked} = [grep {
        ($_->{link} // '') ne ($_->{user_ids} // 'none')
    } @$requests];
    $self->{unclaimed} = [map { values %$_ } values %$arrived];

    return $self;
}

sub note_root {
    my ($self, $request, $pipeline, $span) = @_;
    my $ids = "$span->{trace_id} $span->{span_id}";

    if ($pipeline eq 'user') {
        $request->{user_ids} = $ids;
        return;
    }

    $request->{link} = join ', ', map { "$_->{trace_id} $_->{span_id}" }
        @{$span->{links}};
    push @{$self->{working}{$span->{attributes}{worker} // 'none'}},
        [@$span{qw(start_time_unix_nano end_time_unix_nano)}];
}

# takes what is under |$parent| from the children

sub tree {
    my ($trace, $parent, $children, $indent) = @_;
    my $spans = delete $children->{"$trace $parent"} or return '';

    return join '', map {
        "$indent$_->[1]\n" . tree($trace, $_->[0], $children, "$indent  ")
    } @$spans;
}

# the tree with the lines below each line in the order of their text

sub sorted {
    my ($tree, $indent) = (@_, '');

    return join '', sort map {
        my ($line, $below) = split /^/, $_, 2;
        $line . (defined $below ? sorted($below, "$indent  ") : '');
    } split /^(?=$indent\S)/m, $tree;
}

# A span in one line, and one for each redirect, with N for the number of its
# request. What is behind "to" is what reached an upstream with the id of this
# span.

sub text {
    my ($span, $request, $arrival) = @_;
    my $attributes = $span->{attributes};
    my @words = ($span->{kind}, $span->{name});

    push @words, $attributes->{'http.response.status_code'} // ();
    push @words, @$attributes{qw(network.protocol.version url.path)}
        if $span->{kind} eq 'SERVER';
    push @words, map { "error=$_" } $attributes->{'error.type'} // ();
    push @words, map { "resend=$_" }
        $attributes->{'http.request.resend_count'} // ();
    push @words, 'to', $arrival if defined $arrival;

    my $text = join ' ', @words;

    for my $event (grep { $_->{name} eq 'redirect' } @{$span->{events}}) {
        my $of = $event->{attributes};

        $text .= join ' ', "\n  * redirect",
            map { "$_=$of->{$_}" } sort keys %$of;
    }

    $text =~ s/\b$request->{n}\b/N/g;

    return $text;
}

# what reached the upstreams, by pipeline, trace-id and span-id

sub arrivals {
    my ($file, $stray) = @_;
    my %arrived;

    open my $fh, '<', $file or die "$file: $!";

    while (my $line = <$fh>) {
        my ($mark, $internal, $user, $to) = split ' ', $line, 4;
        chomp $to;

        for ([internal => $internal], [user => $user]) {
            my ($pipeline, $value) = @$_;
            my ($trace, $span) = $value =~ /\A00-(\w{32})-(\w{16})-01\z/;

            if (!defined $span || $arrived{$pipeline}{"$trace $span"}) {
                push @$stray, "$pipeline: $line";
                next;
            }

            $arrived{$pipeline}{"$trace $span"} = "$to of $mark";
        }
    }

    return \%arrived;
}

1;

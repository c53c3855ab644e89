package Tree;

# Trees of spans, drawn as text and compared with what came: what the section
# --- tree of TraceTest says.
#
#   --- tree
#   SERVER GET /t 200
#     CLIENT GET 502 error=502
#     CLIENT GET 200 resend=1 events=connect,first_byte,last_byte
#     INTERNAL subrequest /auth 204
#       CLIENT GET 204
#
# One line is one span: its kind, its name, http.response.status_code, and what
# else is compared. A child stands two columns to the right. Children are in the
# order of their start; several trees, one below the other, in the order of
# their end, as in --- spans.
#
# These three are compared in every line; what is not there has to be absent:
#
#   NNN             http.response.status_code, behind the name
#   error=TYPE      error.type
#   resend=N        http.request.resend_count
#
# These, where they are written:
#
#   reused=true     nginx.upstream.connection_reused
#   events=A,B      the names of the events, in order; events=- for none
#   status=ERROR    the status, where it does not follow from the error
#   FIELD=VALUE     a field of the span: parent_span_id, flags, trace_state, ...
#   NAME=VALUE      any attribute
#   outlives        the span ends after its parent
#   may-outlive     it may
#   sent=N          so many requests with its id have reached a server of
#                   Upstream.pm. By itself it is one for a CLIENT span that got
#                   a connection, none for all others
#
# VALUE is "in quotes" if there are spaces in it, and - for what is absent;
# KEY~REGEX is matched. $TEST_NGINX_... are replaced. Events with attributes are
# lines of their own below their span, then all of its events:
#
#     * redirect http.route=/b http.response.status_code=404
#
# The trees are those of the internal pipeline, and the other one has no span.
# Lines that say otherwise, in front of trees: "internal:", "user:", "both:".
# Behind "both:", attributes that no user span has are those of internal ones.
#
# Of every tree it is checked, without being asked, that
#
#   - it has the spans that are drawn and no others, all of one trace and, in
#     the user pipeline, of one tenant
#   - no span-id comes twice, and nothing of the internal pipeline is in a user
#     span; attempts and subrequests of that have a few attributes only
#   - start and end, parent and child, events and their span are in order
#   - status, error.type and events fit each other
#   - what servers of Upstream.pm have received are the ids of the spans

use strict;
use warnings;

use JSON::PP;

my %SHORT = (
    error => 'error.type',
    resend => 'http.request.resend_count',
    reused => 'nginx.upstream.connection_reused',
);

# what every line says
my @ALWAYS = qw(http.response.status_code error.type
    http.request.resend_count);
my %ALWAYS = map { $_ => 1 } @ALWAYS;

# what user spans show of what is behind the proxy, and of the request
my $CLIENT = qr/\A(http\.request\.(method|method_original|resend_count)
                 |http\.response\.status_code|error\.type)\z/x;
my $SUBREQUEST = qr/\A(http\.route|http\.response\.status_code
                     |error\.type)\z/x;
my $SERVER = qr/\A(?!client\.|network\.peer\.|nginx\.)/;

# nginx counts milliseconds
my $TICK = 1_000_000;

# the trees that |$text| draws, by pipeline

sub parse {
    my $text = shift;
    my %trees;
    my @heads = 'internal';
    my @open;

    $text =~ s/\$(TEST_NGINX_\w+)/$ENV{$1} \/\/ die "no $1\n"/ge;

    for my $line (grep { /\S/ } split /\n/, $text) {
        if ($line =~ /\A(internal|user|both):\s*\z/) {
            @heads = $1 eq 'both' ? qw(internal user) : $1;
            @open = ();
            next;
        }

        my ($indent, $rest) = $line =~ /\A((?:  )*)(\S.*?)\s*\z/
            or die "a line of --- tree is not indented by twos: $line\n";
        my $depth = length($indent) / 2;

        die "a line of --- tree has no parent: $line\n" if $depth > @open;

        if ($rest =~ s/\A\* +//) {
            die "an event without a span: $line\n" if !$depth;
            my %event;
            $event{want} = tokens(\$rest);
            $event{name} = $rest;
            push @{$open[$depth - 1]{events}}, \%event;
            next;
        }

        my $node = node($rest);

        push @$_, $node for $depth ? $open[$depth - 1]{children}
            : map { $trees{$_} ||= [] } @heads;
        splice @open, $depth, @open - $depth, $node;
        $node->{both} = @heads > 1;
    }

    return \%trees;
}

# what user spans of this kind and name may show, if that is little

sub shown {
    my ($kind, $name) = @_;

    return $kind eq 'CLIENT' ? $CLIENT : $kind eq 'SERVER' ? $SERVER
        : $name =~ /\Asubrequest\b/ ? $SUBREQUEST : undef;
}

sub node {
    my $rest = shift;
    my %node = (children => [], line => $rest);

    $node{want} = tokens(\$rest);

    for my $i (reverse 0 .. $#{$node{want}}) {
        my ($key, $op, $value) = @{$node{want}[$i]};

        next if $key !~ /\A(sent|outlives|may-outlive)\z/;
        $node{$key} = $value;
        splice @{$node{want}}, $i, 1;
    }

    unshift @{$node{want}}, ['http.response.status_code', '=', $1]
        if $rest =~ s/ +(\d{3})\z//;

    @node{qw(kind name)}
        = $rest =~ /\A(SERVER|CLIENT|INTERNAL|PRODUCER|CONSUMER) +(.+)\z/
        or die "no kind and name in a line of --- tree: $node{line}\n";

    return \%node;
}

# takes them off the end of a line

sub tokens {
    my $line = shift;
    my @tokens;

    while ($$line =~ s/[ ]+(?: (outlives|may-outlive)
                           | ([a-z][\w.]*) ([=~]) ("[^"]*"|\S+) )\z//x)
    {
        my ($word, $key, $op, $value) = ($1, $2, $3, $4);

        $value =~ s/\A"(.*)"\z/$1/ if defined $value;
        unshift @tokens, $word ? [$word, '', 1]
            : [$SHORT{$key} // $key, $op, $value];
    }

    return \@tokens;
}

# how many spans are drawn

sub count {
    my $trees = shift;
    my $n = 0;
    my @nodes = map { @$_ } values %$trees;

    while (my $node = shift @nodes) {
        $n++;
        push @nodes, @{$node->{children}};
    }

    return $n;
}

sub pipeline { exists $_[0]{headers}{'x-tenant'} ? 'user' : 'internal' }

# the spans as trees: { span, children }

sub grow {
    my @spans = @_;
    my %tree = map { $_->{span_id} => { span => $_, children => [] } } @spans;
    my @roots;

    for my $tree (map { $tree{$_->{span_id}} } sort {
        $a->{start_time_unix_nano} <=> $b->{start_time_unix_nano}
        || $a->{end_time_unix_nano} <=> $b->{end_time_unix_nano} } @spans)
    {
        my $parent = $tree{$tree->{span}{parent_span_id} // ''};

        push @{$parent ? $parent->{children} : \@roots}, $tree;
    }

    return [sort { $a->{span}{end_time_unix_nano}
                   <=> $b->{span}{end_time_unix_nano} } @roots];
}

sub value {
    my ($span, $key) = @_;
    my $value = $key eq 'events'
        ? join ',', map { $_->{name} } @{$span->{events}}
        : $key eq 'status' ? $span->{status}{code}
        : exists $span->{$key} ? $span->{$key}
        : $span->{attributes}{$key};

    $value = $value ? 'true' : 'false' if JSON::PP::is_bool($value);
    $value = JSON::PP->new->canonical->encode($value) if ref $value;

    return $value;
}

sub token {
    my ($key, $op, $value) = @_;
    my ($short) = grep { $SHORT{$_} eq $key } keys %SHORT;

    $value = '-' if ($value // '') eq '';
    $value = "\"$value\"" if $value =~ / /;

    return ' ' . ($short // $key) . $op . $value;
}

# a span as a line; the three are left out where they are absent

sub line {
    my ($kind, $name, @values) = @_;
    my $line = "$kind $name";

    for (@values) {
        my ($key, $op, $value) = @$_;

        next if ($value // '-') eq '-' && $ALWAYS{$key};
        $line .= $key eq 'http.response.status_code' ? " $value" : token(@$_);
    }

    return $line;
}

# what is compared, in this order

sub wanted {
    my ($node, $pipeline) = @_;
    my %want = map { $_->[0] => $_ } @{$node->{want}};
    my $shown = $node->{both} && $pipeline eq 'user'
        && shown(@$node{qw(kind name)});

    return ((map { $want{$_} || [$_, '='] } @ALWAYS), grep {
        !$ALWAYS{$_->[0]} && (!$shown || $_->[0] =~ /\A\w+\z|$shown/)
            } @{$node->{want}});
}

# what is drawn, and what came as it would be drawn, as lines

sub lines {
    my ($pipeline, $nodes, $trees, $indent) = @_;
    my (@expected, @got);

    for my $i (0 .. (@$nodes > @$trees ? $#$nodes : $#$trees)) {
        my ($node, $tree) = ($nodes->[$i], $trees->[$i]);
        my @wanted = wanted($node || {}, $pipeline);

        push @expected, $indent . line(@$node{qw(kind name)}, @wanted)
            if $node;
        push @got, $indent . line(@{$tree->{span}}{qw(kind name)},
            map { got($tree->{span}, $_) } @wanted) if $tree;

        my ($e, $g) = event_lines($node, $tree, "$indent  ");
        push @expected, @$e;
        push @got, @$g;

        ($e, $g) = lines($pipeline, $node ? $node->{children} : [],
                         $tree ? $tree->{children} : [], "$indent  ");
        push @expected, @$e;
        push @got, @$g;
    }

    return (\@expected, \@got);
}

sub got {
    my ($span, $want) = @_;
    my ($key, $op, $value) = @$want;
    my $got = value($span, $key);

    return $want if $op eq '~' && defined $got && $got =~ /$value/;
    return [$key, '=', $got];
}

sub event_lines {
    my ($node, $tree, $indent) = @_;
    my $events = $node && $node->{events} or return ([], []);
    my @came = $tree ? @{$tree->{span}{events}} : ();
    my @got;

    for my $i (0 .. $#came) {
        my $want = $events->[$i] ? $events->[$i]{want} : [];

        push @got, "$indent* $came[$i]{name}"
            . join '', map { token(@{got($came[$i], $_)}) } @$want;
    }

    return ([map { "$indent* $_->{name}"
                   . join '', map { token(@$_) } @{$_->{want}} } @$events],
            \@got);
}

# what is wrong with spans, whatever was drawn

sub complaints {
    my ($nodes, $trees, $parent) = @_;
    my @complaints;

    for my $i (0 .. $#$trees) {
        my ($node, $span) = ($nodes->[$i] || {}, $trees->[$i]{span});
        my @of = (times_of($span), status_of($span, $node), rules_of($span));

        push @of, family_of($span, $parent, $node) if $parent;
        push @complaints, map { "$span->{kind} $span->{name}: $_" } @of;
        push @complaints, complaints($node->{children} || [],
            $trees->[$i]{children}, $span);
    }

    return @complaints;
}

sub times_of {
    my $span = shift;
    my ($last, $end) = @$span{qw(start_time_unix_nano end_time_unix_nano)};
    my @complaints;

    push @complaints, 'ends before it starts' if $end < $last;

    for my $event (@{$span->{events}}) {
        push @complaints, "$event->{name} is not between what is before it"
            . ' and the end of the span'
            if $event->{time_unix_nano} < $last
                || $event->{time_unix_nano} > $end;
        $last = $event->{time_unix_nano};
    }

    return @complaints;
}

sub family_of {
    my ($span, $parent, $node) = @_;
    my $other_process = $span->{kind} eq 'SERVER';
    my $early = $parent->{start_time_unix_nano} - $span->{start_time_unix_nano};
    my $late = $span->{end_time_unix_nano} - $parent->{end_time_unix_nano};
    my @complaints;

    push @complaints, 'has another trace-id than its parent'
        if $span->{trace_id} ne $parent->{trace_id};
    push @complaints, 'has another tenant than its parent'
        if ($span->{headers}{'x-tenant'} // '')
            ne ($parent->{headers}{'x-tenant'} // '');
    push @complaints, "starts $early ns before its parent"
        if $early > ($other_process ? $TICK : 0);
    push @complaints, "ends $late ns after its parent"
        if $late > 0 && !$other_process && !$node->{outlives}
            && !$node->{'may-outlive'};
    push @complaints, "does not outlive its parent, by $late ns"
        if $late <= 0 && $node->{outlives};
    push @complaints, sprintf 'has flags 0x%x, its parent 0x%x',
        $span->{flags}, $parent->{flags}
        if $span->{flags} != ($parent->{flags} & 0x1ff
                              | ($other_process ? 0x200 : 0));

    return @complaints;
}

sub status_of {
    my ($span, $node) = @_;
    my $error = $span->{attributes}{'error.type'} // 'client_closed';
    my $expected = $error eq 'client_closed' ? 'UNSET' : 'ERROR';

    return if grep { $_->[0] eq 'status' } @{$node->{want} || []};
    return if $span->{status}{code} eq $expected;
    return "has status $span->{status}{code}";
}

# of attempts, and of what tenants may see

sub rules_of {
    my $span = shift;
    my %attributes = %{$span->{attributes}};
    my $events = join ' ', map { $_->{name} } @{$span->{events}};
    my $error = $attributes{'error.type'} // '';
    my $reused = $attributes{'nginx.upstream.connection_reused'};
    my $shown = shown(@$span{qw(kind name)});
    my @complaints;

    if (pipeline($span) eq 'user' && $shown && $span->{kind} ne 'SERVER') {
        push @complaints, map { "shows $_ to a tenant" }
            grep { !/$shown/ } sort keys %attributes;
    }

    return @complaints if $span->{kind} ne 'CLIENT';

    push @complaints, "has events: $events"
        if $events !~ /\A(?:connect\b ?)?(?:first_byte(?: last_byte)?)?\z/;
    push @complaints, 'has a connection that is '
        . ($reused ? 'new and kept' : 'not new, nor kept')
        if pipeline($span) eq 'internal' && $events ne ''
            && !$reused == ($events !~ /connect/);
    push @complaints, "got a status, with the events: $events"
        if defined $attributes{'http.response.status_code'}
            && $events !~ /first_byte/;
    push @complaints, "came to its end, with error.type $error"
        if $events =~ /last_byte/ && $error !~ /\A(\d{3})?\z/;
    push @complaints, "has a connection, with error.type $error"
        if $events ne ''
            && $error =~ /\A(connect|tls|no_live_upstream)\z/;

    return @complaints;
}

# the ids and the wall

sub id_complaints {
    my @spans = @_;
    my (%seen, %internal, @complaints);

    $internal{$_->{span_id}} = 1
        for grep { pipeline($_) eq 'internal' } @spans;

    # a trace-id that came from a client may be the same in both
    $internal{$_->{trace_id}} = 1
        for grep { pipeline($_) eq 'internal' && !length $_->{parent_span_id} }
            @spans;

    for my $span (@spans) {
        my $what = pipeline($span) . " $span->{kind} $span->{name}";

        push @complaints, "$what: span-id comes twice"
            if $seen{$span->{span_id}}++;
        next if pipeline($span) eq 'internal';

        my $text = JSON::PP->new->encode($span);
        push @complaints, "$what: has the internal id $_"
            for grep { $internal{$_} } $text =~ /([0-9a-f]{16,})/g;
    }

    return @complaints;
}

# compares what servers have received with what was exported: |$requests| are
# those of Upstream.pm

sub received_complaints {
    my ($nodes, $trees, $requests) = @_;
    my (%received, @complaints);

    for my $request (@$requests) {
        for my $header (@{$request->{headers}}) {
            next if $header->[0] !~ /traceparent\z/i
                || $header->[1] !~ /\A00-([0-9a-f]{32})-([0-9a-f]{16})-/;
            $received{$1}{$2}++;
        }
    }

    my @pairs = map { [$nodes->[$_], $trees->[$_]] } 0 .. $#$trees;
    my %traces = map { $_->{span}{trace_id} => 1 } @$trees;

    while (my $pair = shift @pairs) {
        my ($node, $tree) = @$pair;
        my $span = $tree->{span};
        my $n = delete $received{$span->{trace_id}}{$span->{span_id}} // 0;
        my $expected = $node->{sent} // ($span->{kind} eq 'CLIENT'
            && connected($span) ? 1 : 0);

        push @complaints, "$span->{kind} $span->{name} "
            . ($span->{attributes}{'http.response.status_code'} // '')
            . ": its id was received $n times, not $expected"
            if $n != $expected;
        push @pairs, map { [$node->{children}[$_], $tree->{children}[$_]] }
            0 .. $#{$tree->{children}};
    }

    push @complaints, map { "parent-id $_ was received, and no span has it" }
        map { keys %{$received{$_}} } sort keys %traces;

    return @complaints;
}

# true if its request has left, as far as it tells

sub connected {
    my $span = shift;

    return @{$span->{events}}
        || $span->{attributes}{'nginx.upstream.connection_reused'}
        || ($span->{attributes}{'error.type'} // '') eq 'keepalive_race';
}

# |$requests|: undef if there is no server of Upstream.pm

sub check {
    my ($drawn, $spans, $requests, $name) = @_;

    for my $pipeline (qw(internal user)) {
        my $nodes = $drawn->{$pipeline} || [];
        my $trees = grow(grep { pipeline($_) eq $pipeline } @$spans);

        next if !@$nodes && !@$trees;

        my ($expected, $got) = lines($pipeline, $nodes, $trees, '');
        my @complaints = complaints($nodes, $trees);

        push @complaints, received_complaints($nodes, $trees, $requests)
            if $requests && @$requests;

        Test::More::is(join("\n", @$got), join("\n", @$expected),
            "$name - $pipeline tree");
        Test::More::is(join("\n", @complaints), '',
            "$name - $pipeline spans are in order");
    }

    Test::More::is(join("\n", id_complaints(@$spans)), '',
        "$name - ids");
}

1;

package Promtool;

# Prometheus's own tool, of `make deps` or installed, on what Prometheus is to
# read.
#
#   Promtool::check('metrics', $text, 'name of the test');
#   Promtool::check('rules', $text, 'name of the test');

use strict;
use warnings;

use File::Temp;
use Test::More;

sub check {
    my ($what, $text, $name) = @_;
    my ($promtool) = grep { -x } map { "$_/promtool" }
        $ENV{TEST_BUILD} // 'build', 'build', split /:/, $ENV{PATH};

    SKIP: {
        skip 'no promtool: make deps', 1 if !$promtool;

        my $file = File::Temp->new(SUFFIX => '.yml');
        print $file $text;
        close $file;

        # metrics come on its standard input, rules in a file
        my $input = $what eq 'metrics' ? '<' : '';
        my $said = `$promtool check $what $input $file 2>&1`;

        ok(!$? && $said !~ /\berror|warn/i, $name) or diag $said;
    }
}

1;

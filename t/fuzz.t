# Runs each libFuzzer target of t/fuzz for FUZZ_SECONDS, from its seeds and
# from what earlier runs have found. What breaks a target is left in
# build/fuzz/NAME-crash-*; run the target with that file to see it again.

use strict;
use warnings;

use File::Path qw(make_path);
use Test::More;

my $dir = ($ENV{TEST_BUILD} // 'build') . '/fuzz';
my $seconds = $ENV{FUZZ_SECONDS} // 10;
my @names = map { m{t/fuzz/(.*)\.c$} } sort glob 't/fuzz/*.c';

plan skip_all => 'no targets' unless @names;
plan tests => 2 * @names;

for my $name (@names) {
    my $found = "$dir/corpus/$name";
    my @seeds = grep { -d } "t/fuzz/$name.corpus";

    make_path($found);

    my @run = ("$dir/$name", "-max_total_time=$seconds", '-timeout=10',
        '-rss_limit_mb=2048', '-print_final_stats=1',
        "-artifact_prefix=$dir/$name-", $found, @seeds);

    my $output = run(@run);
    my ($runs) = $output =~ /^stat::number_of_executed_units: *(\d+)/m;

    is($?, 0, "$name finds nothing in $seconds s") or diag($output);
    cmp_ok($runs // 0, '>', 1000, "$name: " . ($runs // 0) . ' inputs');
}


sub run {
    my $pid = open my $out, '-|';

    die "fork: $!" unless defined $pid;

    if ($pid == 0) {
        open STDERR, '>&', \*STDOUT;
        exec @_ or print "$_[0]: $!\n";
        exit 127;
    }

    local $/;
    my $output = <$out>;
    close $out;

    return $output;
}

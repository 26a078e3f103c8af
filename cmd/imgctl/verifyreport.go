package main

import (
	"encoding/xml"
	"fmt"
	"io"
	"slices"

	"github.com/imgctl/imgctl/pkg/verify"
)

// The part of SARIF 2.1.0 that code scanning reads.
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool    sarifTool     `json:"tool"`
		Results []sarifResult `json:"results"`
	}
	sarifTool struct {
		Driver sarifDriver `json:"driver"`
	}
	sarifDriver struct {
		Name           string      `json:"name"`
		InformationURI string      `json:"informationUri"`
		Rules          []sarifRule `json:"rules"`
	}
	sarifRule struct {
		ID   string    `json:"id"`
		Text sarifText `json:"shortDescription"`
	}
	sarifText struct {
		Text string `json:"text"`
	}
	sarifResult struct {
		RuleID    string          `json:"ruleId"`
		Level     string          `json:"level"`
		Message   sarifText       `json:"message"`
		Locations []sarifLocation `json:"locations"`
	}
	sarifLocation struct {
		Physical sarifPhysical  `json:"physicalLocation"`
		Logical  []sarifLogical `json:"logicalLocations"`
	}
	sarifPhysical struct {
		Artifact struct {
			URI string `json:"uri"`
		} `json:"artifactLocation"`
	}
	sarifLogical struct {
		Name string `json:"fullyQualifiedName"`
		Kind string `json:"kind"`
	}
)

// sarifOf makes a result of every reference that is not verified. It is placed in
// the file that decides: a reference has no line of its own, and code scanning
// wants a file.
func sarifOf(found []*verify.Inspection, file string) sarifLog {
	run := sarifRun{Tool: sarifTool{sarifDriver{Name: "imgctl", InformationURI: "https://github.com/imgctl/imgctl", Rules: []sarifRule{}}}, Results: []sarifResult{}}
	for _, in := range found {
		if in.Err == nil {
			continue
		}
		code := exitOf(in.Err)
		id := exitName(code)
		if !slices.ContainsFunc(run.Tool.Driver.Rules, func(r sarifRule) bool { return r.ID == id }) {
			run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, sarifRule{id, sarifText{exitMeaning(code)}})
		}
		at := sarifLocation{Logical: []sarifLogical{{in.Reference, "resource"}}}
		at.Physical.Artifact.URI = file
		run.Results = append(run.Results, sarifResult{id, severity(in), sarifText{verdictText(in)}, []sarifLocation{at}})
	}
	return sarifLog{"https://json.schemastore.org/sarif-2.1.0.json", "2.1.0", []sarifRun{run}}
}

// severity is how bad a verdict is: an outage is a warning.
func severity(in *verify.Inspection) string {
	if in.Verdict == verify.VerdictUnknown || in.Err == nil {
		return "warning"
	}
	return "error"
}

// verdictText is the conclusion with its reference and what to do.
func verdictText(in *verify.Inspection) string {
	text := fmt.Sprintf("%s: %s. %s", in.Reference, in.Verdict, in.Conclusion)
	if in.Next != "" {
		text += " " + in.Next
	}
	return oneLine(text)
}

// The part of JUnit's XML that CI systems read.
type (
	junitSuites struct {
		XMLName xml.Name     `xml:"testsuites"`
		Suites  []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name     string      `xml:"name,attr"`
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		Errors   int         `xml:"errors,attr"`
		Cases    []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Class   string        `xml:"classname,attr"`
		Name    string        `xml:"name,attr"`
		Failure *junitProblem `xml:"failure"`
		Error   *junitProblem `xml:"error"`
		Out     string        `xml:"system-out"`
	}
	junitProblem struct {
		Type    string `xml:"type,attr"`
		Message string `xml:"message,attr"`
	}
)

// printJUnit prints a test case for every reference: failed when it must not be
// used, in error when nobody could say.
func printJUnit(w io.Writer, found []*verify.Inspection) error {
	suite := junitSuite{Name: "imgctl verify", Tests: len(found)}
	for _, in := range found {
		c := junitCase{Class: "imgctl.verify", Name: in.Reference, Out: tableText(in)}
		problem := &junitProblem{Type: exitName(exitOf(in.Err)), Message: verdictText(in)}
		switch {
		case in.Err == nil:
		case in.Verdict == verify.VerdictUnknown:
			c.Error = problem
			suite.Errors++
		default:
			c.Failure = problem
			suite.Failures++
		}
		suite.Cases = append(suite.Cases, c)
	}
	doc, err := xml.MarshalIndent(junitSuites{Suites: []junitSuite{suite}}, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s%s\n", xml.Header, doc)
	return err
}

//! HTML: one page that needs nothing but itself. Texts of tables and figures come from the [`Report`]; here they are put into
//! the [`page`] that the template lays out. The template escapes every text; only drawings, styles, the script and rendered
//! Markdown pass as they are.

mod glossary;
mod page;

use minijinja::Environment;

use crate::report::Report;
use page::HtmlPage;

const TEMPLATE: &str = include_str!("report.html.jinja");

/// A page of all reports, one after the other.
///
/// # Panics
/// Never: the template is fixed, and the tests render it with every part of a page.
#[must_use]
pub fn render(reports: &[Report]) -> String {
    let mut environment = Environment::new();
    // The name ends in .html, which is what turns escaping on.
    environment.add_template("report.html", TEMPLATE).expect("the template is well formed, as tests show");
    let template = environment.get_template("report.html").expect("it was just added");
    template.render(HtmlPage::of(reports)).expect("it takes every page, as tests show") + "\n"
}

/// Markdown of a suite as HTML. Markup of its own in it becomes text: a suite may come from anywhere.
fn markdown(text: &str) -> String {
    use pulldown_cmark::{Event, Options, Parser, html};
    let parser = Parser::new_ext(text.trim(), Options::ENABLE_TABLES);
    let plain = parser.map(|event| match event {
        Event::Html(markup) | Event::InlineHtml(markup) => Event::Text(markup),
        other => other,
    });
    // Links and images would reach out of the page, or run something.
    let tame = plain.filter(|event| {
        use pulldown_cmark::{Tag, TagEnd};
        !matches!(
            event,
            Event::Start(Tag::Link { .. } | Tag::Image { .. }) | Event::End(TagEnd::Link | TagEnd::Image)
        )
    });
    let mut out = String::new();
    html::push_html(&mut out, tame);
    out
}

#[cfg(test)]
mod tests;
